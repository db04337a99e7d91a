"""A Cloud Storage server that fails on demand: a proxy in front of the server of `cloud_server.py`.

Both clients reach it. `google-cloud-storage` is sent to it by `STORAGE_EMULATOR_HOST`. TensorFlow's client has
Google's addresses built in, so it is sent through the proxy by `https_proxy`, where it meets a certificate that
`CURL_CA_BUNDLE` tells it to trust. It reads that variable when it makes its first request, and caches what it read.
"""

import contextlib
import dataclasses
import datetime
import http.client
import http.server
import ipaddress
import os
import re
import socket
import ssl
import struct
import threading
import urllib.parse

import cloud_server
import pytest

GOOGLE_HOSTS = ("www.googleapis.com", "storage.googleapis.com", "oauth2.googleapis.com")
# Enough of an upload's body to have the object's name in it, which its address lacks.
BEGINNING_BYTES = 1 << 11
HOP_HEADERS = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "host"}


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client asked for: `path` is decoded, and has the bucket in it and, last, the object's name.

    The requests that go on with an upload of more than 8 MiB have no name.
    """

    method: str
    path: str


@dataclasses.dataclass
class Fault:
    """What happens to the requests whose method is one of `methods` (all if empty) and whose path has `part` in it.

    status: the answer's status, None for a connection that is reset without an answer, in the middle of a long body.
    delay_seconds: how long the answer takes; the request is then served unless there is a status.
    times: how many requests it befalls, None for all.
    """

    methods: tuple[str, ...] = ()
    part: str = ""
    status: int | None = None
    delay_seconds: float | None = None
    times: int | None = None

    def befalls(self, request):
        if self.methods and request.method not in self.methods:
            return False
        return self.part in request.path and (self.times is None or self.times > 0)


class FaultyCloud:
    """A running proxy. `requests` lists what was asked for, whatever came of it."""

    def __init__(self, port, ca_path):
        self.address = f"http://127.0.0.1:{port}"
        self.ca_path = str(ca_path)
        self.requests = []
        self._faults = []
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def environment(self):
        """Returns the variables with which a process's clients of either kind come here."""
        return {
            "STORAGE_EMULATOR_HOST": self.address,
            "https_proxy": self.address,
            "no_proxy": "127.0.0.1,localhost",
            "CURL_CA_BUNDLE": self.ca_path,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "a token",
        }

    @contextlib.contextmanager
    def failing(self, *methods, **fault):
        """While entered, requests meet a `Fault`; without arguments it is an outage: every connection is reset."""
        entry = Fault(methods, **fault)
        with self._lock:
            self._faults.append(entry)
        try:
            yield entry
        finally:
            with self._lock:
                self._faults.remove(entry)

    def fault_of(self, request):
        """Notes a request, and returns the newest fault that befalls it, if any."""
        with self._lock:
            self.requests.append(request)
            fault = next((one for one in reversed(self._faults) if one.befalls(request)), None)
            if fault and fault.times is not None:
                fault.times -= 1
            return fault

    def delay(self, seconds):
        """Waits, but not beyond the end of the proxy."""
        self._closing.wait(seconds)

    def close(self):
        self._closing.set()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a connection: plain HTTP from one client, a tunnel with TLS in it from the other."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self):  # noqa: N802, the name is the standard library's
        self.send_response(200)
        self.end_headers()
        try:
            self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        except OSError:
            self.close_connection = True
            return
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def serve(self):
        size = int(self.headers.get("Content-Length") or 0)
        beginning = self._chunks() if self._is_chunked() else self.rfile.read(min(size, BEGINNING_BYTES))
        path = urllib.parse.unquote(self.path) + _name_in_upload(self.path, beginning)
        fault = self.server.cloud.fault_of(Request(self.command, path))
        if fault and fault.delay_seconds:
            self.server.cloud.delay(fault.delay_seconds)
        if fault and fault.status is None and fault.delay_seconds is None:
            self._reset()
            return
        body = beginning + self.rfile.read(max(0, size - len(beginning)))
        if fault and fault.status:
            self._answer(fault.status, {}, b'{"error": {"message": "injected"}}')
        else:
            self._forward(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = serve  # noqa: N815

    def _is_chunked(self):
        return self.headers.get("Transfer-Encoding", "").lower() == "chunked"

    def _chunks(self):
        blocks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            blocks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(blocks)

    def _forward(self, body):
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        try:
            # The server takes an object's own address only under the host name that it was told to have.
            connection.request(self.command, self.path, body, {**headers, "Host": self.server.public_host})
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_HEADERS}
            self._answer(answer.status, kept, answer.read(), answer.getheader("Content-Length"))
        finally:
            connection.close()

    def _answer(self, status, headers, body, length=None):
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self):
        """Closes the connection with a reset, as a machine that is gone does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *_):
        """Says nothing: a test's output is its own."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that goes away is no news here."""


def _name_in_upload(path, body):
    """Returns the name of the object that an upload begins, as its description at the beginning of the body has it."""
    found = re.search(rb'"name": "([^"]+)"', body) if path.startswith("/upload/") else None
    return f" {found[1].decode()}" if found else ""


@contextlib.contextmanager
def running(folder):
    """Yields a `FaultyCloud`, with a server of its own behind it; its certificate is written into the folder."""
    port = cloud_server.free_port()
    key_and_certificate = _certificate(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(key_and_certificate)
    with cloud_server.running(public_port=port) as upstream, Server(("127.0.0.1", port), Handler) as server:
        server.tls = tls
        server.cloud = FaultyCloud(port, key_and_certificate)
        server.upstream = ("127.0.0.1", urllib.parse.urlsplit(upstream).port)
        server.public_host = f"127.0.0.1:{port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.cloud
        finally:
            server.cloud.close()
            server.shutdown()
            thread.join()


def _certificate(folder):
    """Writes a key and a certificate of its own for Google's host names; returns the file that holds both."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test of algpt2")])
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [*map(x509.DNSName, GOOGLE_HOSTS), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path = os.path.join(folder, "certificate.pem")
    with open(path, "wb") as stream:
        stream.write(key.private_bytes(pem, private, serialization.NoEncryption()))
        stream.write(certificate.public_bytes(pem))
    return path
