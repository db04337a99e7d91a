"""Keeps what TensorFlow's libraries say of themselves while they are loaded off stderr, and lets all else through.

`TF_CPP_MIN_LOG_LEVEL` hides informational messages from the moment that TensorFlow reads it. Some are written before:
static initialisers of its libraries log while the libraries are loaded (TensorFlow 2.21, `port.cc`). So stderr passes
through a filter for as long as the import takes. The filter is a process of its own, because the import may abort the
process, and what it wrote last must then still reach the terminal.
"""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

STDERR = 2
DRAIN_TIMEOUT_SECONDS = 5
CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
    rb"|[IW]\d{4} [\d:.]+ +\d+ \S+:\d+\] "  # absl's C++ log lines: severity, date, time, thread, source
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IW] \S+:\d+\] "  # those of TensorFlow's own logger, until 2.20
    # Errors by their severity, but every process with the GPU wheel has them, and nothing is wrong.
    rb"|.*Unable to register cu(?:BLAS|DNN|FFT) factory: Attempting to register factory for plugin"
)


@contextlib.contextmanager
def filtered_stderr() -> Iterator[None]:
    """Passes everything that this process writes to stderr, from Python or C++, through the filter, line by line."""
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    # A session of its own, so that Ctrl-C at a terminal ends this process and not the filter of its last words.
    program = [sys.executable, "-I", "-S", __file__]
    line_filter = subprocess.Popen(program, stdin=read_end, stdout=subprocess.DEVNULL, start_new_session=True)
    os.close(read_end)
    unfiltered = os.dup(STDERR)
    os.dup2(write_end, STDERR)
    os.close(write_end)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(unfiltered, STDERR)
        os.close(unfiltered)
        # It ends when nobody holds the pipe. Should a child of this process hold it, the filter goes on without us.
        with contextlib.suppress(subprocess.TimeoutExpired):
            line_filter.wait(DRAIN_TIMEOUT_SECONDS)


def main() -> None:
    """Copies stdin to stderr, line by line, without the chatter."""
    for line in sys.stdin.buffer:
        if not CHATTER.match(line):
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()


if __name__ == "__main__":
    main()
