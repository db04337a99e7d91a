"""Ctrl-C, in every command and at every moment: one line on stderr, status 130, and nothing half done left behind.

Python's own way is an exception in the main thread. It comes late or never while that thread is in C++ or Rust, it ends
in a traceback where nobody catches it, and libraries swallow it or turn it into errors of theirs. So a thread of its
own, which the operating system's signal reaches at once, tells the user and sees to it that the process ends. The
exception comes beside that, so that `with` and `finally` clean up while there is time.
"""

import contextlib
import gc
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeVar

from algpt2 import standard_streams

GRACE_SECONDS = 1.0
EXIT_INTERRUPTED = 128 + signal.SIGINT

T = TypeVar("T")
_temporary_paths: set[str] = set()


class SignalWatch:
    """While entered, calls `handle(number)` on a thread of its own for each signal that has a handler in Python.

    That handler runs once the main thread is back in Python, and once for several signals that came before that. The
    watch gets each of them at once: Python writes its number to a pipe from within the operating system's handler.
    Only the main thread may enter it.
    """

    def __init__(self, handle: Callable[[int], Any]):
        self._handle = handle
        self._thread = threading.Thread(target=self._pass_on, name="signals", daemon=True)

    def __enter__(self) -> "SignalWatch":
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._previous = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        signal.set_wakeup_fd(self._previous)
        os.write(self._write_end, b"\0")  # no signal has this number
        self._thread.join()
        os.close(self._read_end)
        os.close(self._write_end)

    def _pass_on(self) -> None:
        while number := os.read(self._read_end, 1)[0]:
            self._handle(number)


class _Command:
    """What SIGINT does to this process: it ends it, at once or, while `cleans_up` is set, by an exception first."""

    def __init__(self) -> None:
        self.cleans_up = False
        self.holds_back = False
        self._has_begun = False
        self.has_come = False
        self._has_told = threading.Event()

    def begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            standard_streams.open_closed_streams()
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, self._on_main_thread)
                SignalWatch(self._on_watch).__enter__()

    def _on_main_thread(self, number: int, frame: FrameType | None) -> None:
        is_first, self.has_come = not self.has_come, True
        self._has_told.wait(GRACE_SECONDS)
        if not self.cleans_up:
            end_process()
        if is_first and not self.holds_back:  # A second one must not cut the cleaning up short.
            raise KeyboardInterrupt

    def _on_watch(self, number: int) -> None:
        if number == signal.SIGINT:
            write_last_line("error: interrupted")
            self._has_told.set()
            if self.cleans_up:
                time.sleep(GRACE_SECONDS)
            end_process()


_command = _Command()


def begin() -> None:
    """From here on SIGINT ends this process with one line on stderr and status 130.

    A script calls it before its imports, which take a moment. Where SIGINT is ignored, as in a shell script's
    background jobs, it stays so.
    """
    _command.begin()


def cleaned_up(function: Callable[[], T]) -> T:
    """Returns what a function returns. When SIGINT comes, its `with` and `finally` have `GRACE_SECONDS` to clean up."""
    _command.cleans_up = True
    try:
        return function()
    except BaseException:
        if not _command.has_come:
            raise
    finally:
        _command.cleans_up = False
    # Here the exception and what it held are gone, but for cycles, so objects that delete files at their end do so.
    gc.collect()
    return end_process()


@contextlib.contextmanager
def temporary(path: str) -> Iterator[None]:
    """Deletes a file or folder when the block ends, or when the process ends before that."""
    _temporary_paths.add(path)
    try:
        yield
    finally:
        _delete(path)
        _temporary_paths.discard(path)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Lets no SIGINT interrupt the block, nor ever reach the processes that are started in it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _command.holds_back = True
    try:
        yield
    finally:
        _command.holds_back = False
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if _command.has_come:
        raise KeyboardInterrupt


def write_last_line(line: str) -> None:
    """Writes a line to stderr, below a bar of progress if one stands, and sends all that comes after it to nowhere."""
    is_bar_open = getattr(sys.modules.get("algpt2.progress"), "is_bar_open", bool)
    text = ("\n" if is_bar_open() else "") + line + "\n"
    with contextlib.suppress(OSError):
        # A reader that reads nothing must not keep the process from ending.
        if select.select([], [standard_streams.STDERR], [], 0)[1]:
            os.write(standard_streams.STDERR, text.encode())
    standard_streams.send_to_nowhere(standard_streams.STDERR)


def end_process(status: int = EXIT_INTERRUPTED) -> NoReturn:
    """Ends the process at once, on whatever thread, but for its temporary files, which it deletes."""
    for path in list(_temporary_paths):
        with contextlib.suppress(OSError):
            _delete(path)
    os._exit(status)


def _delete(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
