"""Programs and scripts that SIGINT comes to at a moment which does not depend on how fast the machine is."""

import os
import signal
import subprocess
import sys

TIMEOUT_SECONDS = 30
BEGUN = "begun\n"
# `endless_call()` lasts for hours, lets other threads run, and looks for no signal. The processor time of the main
# thread tells when it is under way.
ENDLESS_CALL = f"""
import hashlib, threading, time

def endless_call():
    threading.Thread(target=say_begun, daemon=True).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def say_begun():
    clock = time.pthread_getcpuclockid(threading.main_thread().ident)
    start = time.clock_gettime(clock)
    while time.clock_gettime(clock) < start + 0.05:
        time.sleep(0.01)
    print({BEGUN.strip()!r}, flush=True)
"""

# Python runs a module of this name before the program itself.
_SITE_CUSTOMISATION = """
import os, signal, sys

def interrupt(event, arguments):
    if event == "import" and arguments[0] == os.environ.get("INTERRUPT_AT_IMPORT_OF"):
        del os.environ["INTERRUPT_AT_IMPORT_OF"]
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
"""


def interrupted_at_import(module, command, folder):
    """Returns how a Python command ended that got SIGINT as it began to import a module; `folder` is for a file."""
    (folder / "sitecustomize.py").write_text(_SITE_CUSTOMISATION)
    path = os.pathsep.join([str(folder), os.environ["PYTHONPATH"]])
    environment = {**os.environ, "PYTHONPATH": path, "INTERRUPT_AT_IMPORT_OF": module}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


def started(program):
    """Returns the process of a Python program that has printed `BEGUN`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes)
    assert process.stdout.readline() == BEGUN, process.communicate()
    return process


def ended(process, number=signal.SIGINT):
    """Sends a signal; returns the process's status, what else it printed, and the rest of its stderr."""
    process.send_signal(number)
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.kill()
    return process.returncode, output, errors
