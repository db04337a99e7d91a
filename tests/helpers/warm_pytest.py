"""Runs pytest again and again, each time in a child of one process that has imported slow modules once.

The modules are this script's arguments. Each line of stdin is a JSON object {"arguments": [...], "limit_seconds": ...}
and is answered by a line on stdout: {"status": exit status, or null after the limit, "output": what pytest printed}.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time

import pytest

SECONDS_BETWEEN_LOOKS = 0.05


def main():
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        status, output = run(**json.loads(line))
        print(json.dumps({"status": status, "output": output}), flush=True)


def run(arguments, limit_seconds):
    """Returns the exit status of pytest in a child, None if it had to be ended, and what it printed."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        child = os.fork()
        if child == 0:
            run_in_child(arguments, output)
        status = wait(child, limit_seconds)
        output.seek(0)
        return status, output.read()


def run_in_child(arguments, output):
    """Ends the process with pytest's status. Its group is its own, so that what its tests start can be ended too."""
    os.setsid()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    status = pytest.ExitCode.INTERNAL_ERROR
    try:
        status = pytest.main(arguments)
    finally:
        sys.stdout.flush()
        os._exit(int(status))


def wait(child, limit_seconds):
    """Waits for a child and ends all of its group; returns its exit status, None if the limit came first."""
    give_up, ended, wait_status = time.monotonic() + limit_seconds, 0, 0
    while not ended and time.monotonic() < give_up:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        ended, wait_status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):  # Nothing may be left of it.
        os.killpg(child, signal.SIGKILL)
    if not ended:
        os.waitpid(child, 0)
        return None
    return os.waitstatus_to_exitcode(wait_status)


# Processes that tests start by multiprocessing import this file again.
if __name__ == "__main__":
    main()
