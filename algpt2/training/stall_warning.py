"""A warning when no step has finished for far longer than usual, which says what the run waits for."""

import contextlib
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from absl import logging

from algpt2.storage.failure_log import reason_of

TIMES_THE_USUAL = 10
LEAST_SECONDS = 30.0
SECONDS_BETWEEN_WARNINGS = 60.0
SECONDS_BETWEEN_LOOKS = 1.0
REMEMBERED_CALLS = 20


class InputCounts(NamedTuple):
    """How many batches the steps of this process have asked for, and how many came."""

    asked: int
    came: int


class StallWatch:
    """While entered, a thread looks every second at how far the graph call under way has come.

    TensorFlow tries reads from a service that is away again for minutes, and says nothing. Compilation, evaluations and
    saves may take as long as they like: only steps are watched, and of the first call of a graph, which compiles it,
    only the wait for its first batch.
    """

    def __init__(
        self, counts: Callable[[], InputCounts], records_place: str, clock: Callable[[], float] = time.monotonic
    ):
        """Takes what tells how many batches were asked for and came, and where the records are, for the warning."""
        self._counts_now = counts
        self._records_place = records_place
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking, name="stall watch", daemon=True)
        self._seconds_per_step: deque[float] = deque(maxlen=REMEMBERED_CALLS)
        self._compiled: set[Hashable] = set()
        self._is_compiling = False
        self._counts = InputCounts(0, 0)
        self._moved_at: float | None = None  # when a count last changed; None between graph calls
        self._warned_at: float | None = None  # None unless the stall under way was told

    def __enter__(self) -> "StallWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @contextlib.contextmanager
    def steps(self, n_steps: int, graph: Hashable) -> Iterator[InputCounts]:
        """Watches the block, which is one graph call of so many steps; yields the counts before it.

        Args:
          n_steps: of the call.
          graph: says which graph it is.
        """
        start, counts = self._clock(), self._counts_now()
        with self._lock:
            self._is_compiling = graph not in self._compiled
            self._counts, self._moved_at = counts, start
        try:
            yield counts
        finally:
            with self._lock:
                self._moved_at = None
        self._end_stall()
        if not self._is_compiling:
            self._seconds_per_step.append((self._clock() - start) / n_steps)
        self._compiled.add(graph)

    def look(self) -> None:
        """Warns if the steps under way have not come further for too long, at most once a minute."""
        with self._lock:
            if self._moved_at is None:
                return
            now, counts = self._clock(), self._counts_now()
            if counts != self._counts:
                self._counts, self._moved_at = counts, now
                self._end_stall()
            elif self._is_stalled(now) and not self._has_just_warned(now):
                self._warn(now)

    def _keep_looking(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.look()
            except Exception as error:  # The counts are on a TPU's machine that is gone; the steps say so themselves.
                logging.warning("the steps are not watched any more (%s)", reason_of(error))
                return

    def _is_waiting_for_input(self) -> bool:
        return self._counts.asked > self._counts.came

    def _is_stalled(self, now: float) -> bool:
        if self._is_compiling and not self._is_waiting_for_input():
            return False
        return now - self._moved_at >= max(LEAST_SECONDS, TIMES_THE_USUAL * self._usual_seconds())

    def _usual_seconds(self) -> float:
        return statistics.median(self._seconds_per_step) if self._seconds_per_step else 0.0

    def _has_just_warned(self, now: float) -> bool:
        return self._warned_at is not None and now - self._warned_at < SECONDS_BETWEEN_WARNINGS

    def _warn(self, now: float) -> None:
        self._warned_at = now
        waits_for = f"records of {self._records_place}" if self._is_waiting_for_input() else "the devices"
        usual = f", which usually takes {self._usual_seconds():.3g} s" if self._seconds_per_step else ""
        logging.warning("no step has finished for %.0f s%s: waiting for %s", now - self._moved_at, usual, waits_for)

    def _end_stall(self) -> None:
        if self._warned_at is not None:
            logging.info("steps go on")
            self._warned_at = None
