"""What passes the filter of stderr while TensorFlow is imported: everything but known start-up messages.

That the import says nothing else is in tests/test_cli_processes.py.
"""

import subprocess
import sys

import pytest
from places import REPOSITORY

from algpt2.devices.startup_chatter import CHATTER

ABSL_INFO = "I0000 00:00:1795567660.855883   21366 port.cc:153] oneDNN custom operations are on. You may see"
ABSL_ERROR = "E0000 00:00:1795567660.855883   21366 cuda_platform.cc:51] failed call to cuInit: INTERNAL"
ABSL_FATAL = "F0000 00:00:1795567660.855883   21366 tpu_api.cc:9] Check failed: version == 3"
TENSORFLOW_INFO = "2025-09-17 14:44:05.157831: I external/xla/cudart_stub.cc:32] Could not find cuda drivers"
TENSORFLOW_ERROR = "2025-09-17 14:44:05.157831: E external/xla/cuda_driver.cc:32] failed call to cuInit"
REGISTERED_TWICE = (
    "E0000 00:00:1758131045.203198 3722035 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempting to register "
    "factory for plugin cuDNN when one has already been registered"
)
PREAMBLE = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"


def outcome(body):
    """Returns how a process ended that ran `body` with a filtered stderr, and what it wrote there."""
    program = f"""
import os, sys
from algpt2.devices.startup_chatter import filtered_stderr
def say(line):
    os.write(2, line.encode() + b"\\n")
with filtered_stderr():
    {body}
say("after " + {ABSL_INFO!r})
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stderr.splitlines()


@pytest.mark.parametrize(
    "line", [PREAMBLE, ABSL_INFO, ABSL_INFO.replace("I", "W", 1), TENSORFLOW_INFO, REGISTERED_TWICE]
)
def test_start_up_messages_are_known(line):
    assert CHATTER.match(line.encode())


@pytest.mark.parametrize("line", [ABSL_ERROR, ABSL_FATAL, TENSORFLOW_ERROR, "Intel: a line like any other", "W", ""])
def test_errors_and_everybody_elses_lines_are_not(line):
    assert not CHATTER.match(line.encode())


def test_what_is_no_chatter_passes_in_its_order_and_the_filter_ends_with_the_import():
    status, lines = outcome(f"say('first'); say({ABSL_INFO!r}); print('second', file=sys.stderr); say({ABSL_ERROR!r})")
    assert status == 0
    assert lines == ["first", "second", ABSL_ERROR, f"after {ABSL_INFO}"]


def test_the_last_words_of_a_process_that_aborts_are_not_lost():
    status, lines = outcome(f"say({PREAMBLE!r}); say({ABSL_FATAL!r}); os.abort()")
    assert status < 0
    assert lines == [ABSL_FATAL]


def test_the_traceback_of_a_failed_import_is_whole():
    status, lines = outcome("import algpt2.no_such_module")
    assert status == 1
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "ModuleNotFoundError: No module named 'algpt2.no_such_module'"
