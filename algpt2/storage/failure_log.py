"""Log lines about something that keeps failing: few, however long it lasts."""

import time
from collections.abc import Callable

from absl import logging

SECONDS_BETWEEN_WARNINGS = 60.0
LONGEST_REASON = 300


class FailureLog:
    """Warns when something begins to fail, and at most once a minute while it lasts; says when it works again.

    What fails and recovers in quick succession is warned of once a minute too; a recovery is told if its failure was.
    """

    def __init__(self, action: str, clock: Callable[[], float] = time.monotonic):
        """Takes what is tried, as in "written" or "renewed", and a clock that gives seconds since some moment."""
        self._action = action
        self._clock = clock
        self._failing_since: float | None = None
        self._last_warning: float | None = None
        self._has_warned = False

    def failed(self, name: str, reason: str) -> None:
        """Takes in one failure of a file or another thing."""
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        if self._last_warning is None or now - self._last_warning >= SECONDS_BETWEEN_WARNINGS:
            self._last_warning, self._has_warned = now, True
            since = _since_first(now - self._failing_since)
            logging.warning("%s cannot be %s%s (%s); trying again", name, self._action, since, reason)

    def succeeded(self, name: str) -> None:
        """Takes in that nothing fails any more, `name` having been the last."""
        if self._failing_since is not None and self._has_warned:
            seconds = self._clock() - self._failing_since
            logging.info("%s was %s again after %.0f s of failures", name, self._action, seconds)
        self._failing_since, self._has_warned = None, False


def reason_of(error: BaseException) -> str:
    """Returns what an error says as one line that is not too long, or the error's kind if it says nothing."""
    return " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__


def _since_first(seconds: float) -> str:
    return f", {seconds:.0f} s after the first failure" if seconds >= 1 else ""
