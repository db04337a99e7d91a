"""Writes checkpoints on a thread of its own, one at a time, while training goes on."""

import threading
import time
from collections.abc import Callable, Sequence

from absl import logging

BACKOFF_SECONDS = (1.0, 4.0, 16.0, 64.0)
LONGEST_WAIT_SECONDS = 60.0


class CheckpointWriter:
    """Runs a write in the background; one that fails is tried again after each of `backoff_seconds`, then reported."""

    def __init__(self, backoff_seconds: Sequence[float] | None = None):
        self._backoff_seconds = BACKOFF_SECONDS if backoff_seconds is None else backoff_seconds
        self._thread: threading.Thread | None = None
        self.failures = 0
        self.last_error: Exception | None = None

    def is_busy(self) -> bool:
        """Returns whether a write is under way."""
        return self._thread is not None and self._thread.is_alive()

    def wait_while_healthy(self) -> bool:
        """Waits for the write under way unless it is failing or takes over a minute; returns whether none is left.

        So a healthy storage that is slower than the cadence of saves slows training down, and a broken one does not.
        """
        give_up = time.monotonic() + LONGEST_WAIT_SECONDS
        while self.is_busy() and self.last_error is None and time.monotonic() < give_up:
            self._thread.join(0.02)
        return not self.is_busy()

    def start(self, write: Callable[[], None]) -> None:
        """Starts `write` in the background, after the one under way, if any."""
        self.wait()
        self.last_error = None
        self._thread = threading.Thread(target=self._write, args=(write,), name="checkpoint writer", daemon=True)
        self._thread.start()

    def wait(self) -> bool:
        """Waits for the write under way; returns whether the last one succeeded."""
        if self._thread is not None:
            self._thread.join()
        return self.last_error is None

    def _write(self, write: Callable[[], None]) -> None:
        for pause in (*self._backoff_seconds, None):
            try:
                write()
                self.last_error = None
                return
            except Exception as error:  # Whatever the storage raises, training is worth more than one checkpoint.
                self.last_error = error
                logging.warning("a checkpoint could not be written (%s)%s", error, _next_try(pause))
            if pause is not None:
                time.sleep(pause)
        self.failures += 1


def _next_try(pause: float | None) -> str:
    return "; the run goes on without it" if pause is None else f"; trying again in {pause:g} s"
