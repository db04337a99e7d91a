"""stdin, stdout and stderr, which whoever starts a command may have closed, or sent to a full disk or a dead reader."""

import contextlib
import io
import os
import sys
from typing import Any

STDIN, STDOUT, STDERR = range(3)


def open_closed_streams() -> None:
    """Opens the null device where stdin, stdout or stderr is closed, and makes stderr one that a command can lose.

    Otherwise the next file that is opened would get the number of the closed stream, and what a library writes to
    stderr would land in that file. `sys.stdout` stays None where it was closed, which tells `stdout_is_closed`.
    """
    for number in (STDIN, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            send_to_nowhere(number)
    sys.stderr = _stderr_that_can_be_lost()


def stdout_is_closed() -> bool:
    """Returns whether the process was started without a stdout."""
    return sys.stdout is None


def write_result(text: str) -> None:
    """Writes a line to stdout at once.

    Raises:
      OSError: stdout cannot take it. What remains of the text is dropped, or Python would try again at the end of the
        process and write a complaint of its own.
    """
    _print(text + "\n")


def write_text(text: str) -> None:
    """Writes a piece of text to stdout at once; what stdout's encoding lacks becomes `?`.

    Raises:
      OSError: as `write_result`.
    """
    encoding = sys.stdout.encoding or "utf-8"
    _print(text.encode(encoding, "replace").decode(encoding))


def _print(text: str) -> None:
    try:
        print(text, end="", flush=True)
    except OSError:
        send_to_nowhere(STDOUT)
        raise


def flush_stdout() -> None:
    """Writes what was printed and is not written yet.

    Raises:
      OSError: as `write_result`.
    """
    try:
        sys.stdout.flush()
    except OSError:
        send_to_nowhere(STDOUT)
        raise


def send_to_nowhere(number: int) -> None:
    """Lets a standard stream of this process and its later children lead to the null device."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        if null == number:
            os.set_inheritable(number, True)
        else:
            os.dup2(null, number)
            os.close(null)


class _LossyFile(io.FileIO):
    """A file that takes everything and loses what cannot be written."""

    def write(self, data: Any) -> int | None:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _stderr_that_can_be_lost() -> io.TextIOWrapper:
    """Returns a stream to stderr, which is for people: where it cannot be written, the command goes on without."""
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    file = _LossyFile(STDERR, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(file), encoding, "backslashreplace", line_buffering=True)
