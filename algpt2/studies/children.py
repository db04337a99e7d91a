"""The processes that train cells: started, watched and stopped by the study's process."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from algpt2 import cli, storage
from algpt2.errors import shortened
from algpt2.studies.cell_process import EXIT_DIVERGED, write_order
from algpt2.studies.cells import Cell
from algpt2.studies.orders import CellOrder

CELL_COMMAND = (sys.executable, "-m", "algpt2.studies.cell_process")
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
      command: the program that trains.
    """

    def __init__(
        self,
        cell: Cell,
        order: CellOrder,
        log_path: str,
        threads: int | None = None,
        command: Sequence[str] = CELL_COMMAND,
    ):
        self.cell = cell
        self._log_path = log_path
        self._local_log = _local_log(log_path)
        self._is_told_to_stop = False
        with open(self._local_log, "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | (dict.fromkeys(THREAD_VARIABLES, str(threads)) if threads else {}),
                start_new_session=True,  # Ctrl-C reaches the study's process alone, which then stops this one once.
            )
        with contextlib.suppress(BrokenPipeError):  # It has died already, which `wait` tells.
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
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        was_early = self._is_told_to_stop and status == -signal.SIGTERM  # before it could take the signal
        return Outcome(
            is_done=status == cli.EXIT_OK,
            is_interrupted=status == cli.EXIT_INTERRUPTED or was_early,
            diverged=status == EXIT_DIVERGED,
            reason=_reason(status, self._end_log()),
        )

    def _end_log(self) -> str:
        """Publishes a log that lies on Cloud Storage; returns its last line that has something in it."""
        with open(self._local_log, "rb") as log:
            log.seek(max(0, os.path.getsize(self._local_log) - LAST_BYTES))
            lines = log.read().decode("utf-8", errors="replace").replace("\r", "\n").splitlines()
        if self._local_log != self._log_path:
            with open(self._local_log, "rb") as log:
                storage.write_bytes(self._log_path, log.read())
            os.unlink(self._local_log)
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _local_log(path: str) -> str:
    """Returns the file on a disk that takes a process's stderr: a temporary one where the log lies on Cloud Storage."""
    if storage.is_remote(path):
        descriptor, path = tempfile.mkstemp(suffix=".log")
        os.close(descriptor)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def _reason(status: int, last_line: str) -> str:
    """-9, 'step 5' -> 'SIGKILL ended it after it wrote: step 5'."""
    told = shortened(last_line.removeprefix("error: "))
    if status < 0:
        name = signal.Signals(-status).name
        return f"{name} ended it" + (f" after it wrote: {told}" if told else "")
    return told or f"it ended with status {status} and wrote nothing"
