"""Clocks around checkpoints: when the next is due, how long they took, and how long they held up the steps."""

import contextlib
import time
from collections.abc import Callable, Iterator

Clock = Callable[[], float]


class SaveTimer:
    """Says when minutes have gone by since the last save."""

    def __init__(self, minutes: float, clock: Clock = time.monotonic):
        """Takes the time between saves, 0 for never, and a clock that gives seconds since some moment."""
        self.minutes = minutes
        self._clock = clock
        self._last_save = clock()

    def is_due(self) -> bool:
        """Returns whether the time is over."""
        return self.minutes > 0 and self._clock() - self._last_save >= 60 * self.minutes

    def restart(self) -> None:
        """Lets the time begin anew."""
        self._last_save = self._clock()


class SaveTimes:
    """How long a process's checkpoints took to write, in the background, and how long they held up its steps."""

    def __init__(self, clock: Clock = time.monotonic):
        self._clock = clock
        self._write_seconds = 0.0
        self._wait_seconds = 0.0
        self._last_write_seconds: float | None = None
        self._waited_at_last_call = 0.0

    @contextlib.contextmanager
    def holding_up(self) -> Iterator[None]:
        """Counts the block as time in which no step can run."""
        start = self._clock()
        try:
            yield
        finally:
            self._wait_seconds += self._clock() - start

    def add_write(self, seconds: float) -> None:
        """Counts a write that has succeeded; the writer's thread calls it."""
        self._write_seconds += seconds
        self._last_write_seconds = seconds

    def since_last_call(self) -> dict[str, float]:
        """Returns the latest write, if one has ended since the last call, and the time that saves held up the steps."""
        last, self._last_write_seconds = self._last_write_seconds, None
        waited, self._waited_at_last_call = self._wait_seconds - self._waited_at_last_call, self._wait_seconds
        written = {} if last is None else {"checkpoint_seconds": last}
        return {**written, "checkpoint_wait_seconds": waited}

    def totals(self) -> dict[str, float]:
        """Returns both sums since the process began."""
        return {"checkpoint_seconds": self._write_seconds, "checkpoint_wait_seconds": self._wait_seconds}
