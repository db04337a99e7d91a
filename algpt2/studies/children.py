"""The processes that train cells: started, watched and stopped by the study's process."""

import os
import signal
import subprocess
import sys
import tempfile
from typing import BinaryIO, NamedTuple

from algpt2 import cli, interrupts, storage
from algpt2.errors import shortened
from algpt2.studies.cell_process import EXIT_DIVERGED, write_order
from algpt2.studies.cells import Cell
from algpt2.studies.orders import CellOrder

MODULE = "algpt2.studies.cell_process"
LAST_BYTES = 1 << 14
THREAD_VARIABLES = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Outcome(NamedTuple):
    """How a process ended.

    Attributes:
      is_done: whether its run has ended.
      is_interrupted: whether a signal stopped it, so that the same order goes on with it.
      diverged: whether the loss or gradient was not finite.
      reason: why it is not done, in one line.
    """

    is_done: bool
    is_interrupted: bool
    diverged: bool
    reason: str


class Child:
    """The process of one cell. What it writes on stderr goes to the cell's log, its end to whoever waits for stdout.

    Args:
      cell: the cell.
      order: what it is told.
      log_path: the file that gets its stderr, after what is there.
      threads: how many it computes with; None for as many as there are cores.
    """

    def __init__(self, cell: Cell, order: CellOrder, log_path: str, threads: int | None):
        self.cell = cell
        self._log = _Log(log_path)
        self._is_told_to_stop = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.stream,
            env=os.environ | (dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}),
            start_new_session=True,  # Ctrl-C reaches the study's process alone, which then stops this one once.
        )
        self._process.stdin.write(write_order(order))
        self._process.stdin.flush()

    @property
    def stdout(self) -> BinaryIO:
        """Readable once the process has ended."""
        return self._process.stdout

    def stop(self) -> None:
        """Asks the process to save and end; asked again, it ends at once."""
        self._is_told_to_stop = True
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> Outcome:
        """Waits for the process to end; returns how it did."""
        status = self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        last_line = self._log.close()
        was_signalled = self._is_told_to_stop and status == -signal.SIGTERM  # before it could take the signal
        return Outcome(
            is_done=status == cli.EXIT_OK,
            is_interrupted=status == cli.EXIT_INTERRUPTED or was_signalled,
            diverged=status == EXIT_DIVERGED,
            reason=_reason(status, last_line),
        )


class _Log:
    """The file that takes a process's stderr; of one on Cloud Storage a local copy, which is published at the end."""

    def __init__(self, path: str):
        self._path = path
        if storage.is_remote(path):
            self.stream: BinaryIO = tempfile.TemporaryFile()
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.stream = open(path, "a+b")

    def close(self) -> str:
        """Returns the last line that has something in it."""
        with self.stream as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(0 if storage.is_remote(self._path) else max(0, size - LAST_BYTES))
            content = stream.read()
        if storage.is_remote(self._path):
            storage.write_bytes(self._path, content)
        lines = content.decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _reason(status: int, last_line: str) -> str:
    """-9, 'step 5' -> 'SIGKILL ended it after it wrote: step 5'."""
    told = shortened(last_line.removeprefix("error: "))
    if status < 0:
        name = signal.Signals(-status).name
        return f"{name} ended it" + (f" after it wrote: {told}" if told else "")
    return told or f"it ended with status {status} and wrote nothing"
