"""A moment at which waiting ends."""

import time
from collections.abc import Callable


class Deadline:
    """So many seconds from now, by a clock that a test may bring."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._end = clock() + seconds

    def seconds_left(self) -> float:
        """Returns how long is left, at least 0."""
        return max(0.0, self._end - self._clock())

    def shorten(self, seconds: float) -> None:
        """Lets it come so many seconds from now, if it would come later."""
        self._end = min(self._end, self._clock() + seconds)
