"""Writes that are made in the background, each tried again until it succeeds, so that no outage stops training.

What a run tells grows: metrics, samples, curves. Its files are handed over whole, and of several states of one file
only the newest is written, so that what waits in memory does not grow with the length of an outage.
"""

import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from algpt2 import storage
from algpt2.errors import TrainingStopped
from algpt2.storage.deadline import Deadline
from algpt2.storage.failure_log import FailureLog, reason_of
from algpt2.storage.patience import trying_for

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
AWAITED_PAUSE_SECONDS = 5.0
LONGEST_LOOK_AWAY_SECONDS = 1.0
OPTIONAL_SECONDS = 10.0
ATTEMPT_SECONDS = 10.0

Pause = Callable[[threading.Condition, float | None], object]


class NotWritten(Exception):
    """A file that had to be written was not, in the time that there was. Its message names the file and the reason."""


@dataclasses.dataclass
class Write:
    """A write that has not succeeded yet.

    required: whether `Publisher.wait` waits for it.
    number: it grows from one write that is handed over to the next.
    due: the time of the next attempt, by the publisher's clock.
    pause_seconds: how long to wait after the next failure.
    failure: what the last attempt said, None before the first has failed.
    """

    name: str
    make: Callable[[], None]
    required: bool
    number: int
    due: float
    pause_seconds: float
    failure: str | None = None

    def take_place_of(self, before: "Write") -> None:
        """Goes on where an older write of the name stands: it may be awaited, and so due, or pause after a failure."""
        self.due = min(self.due, before.due) if before.failure is None else before.due
        self.pause_seconds, self.failure = before.pause_seconds, before.failure


class Publisher:
    """Makes writes on a thread of its own. Of several under one name, only the newest is made.

    A write that fails is tried again after pauses that double from one second to a minute, for as long as the process
    lives. While somebody waits for it, no pause is longer than five seconds. One that `require` refuses with a
    `TrainingStopped` ends the writing for good.

    Attributes:
      superseded: how many writes gave way to newer ones of their names before they were made.
      refusal: what `require` ended the writing with, None if it did not.
    """

    def __init__(
        self,
        thread_name: str,
        require: Callable[[], None] = lambda: None,
        attempt_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause = threading.Condition.wait,
    ):
        """Starts no thread yet.

        Args:
          thread_name: of the thread that writes.
          require: called on it before each attempt; raises if the attempt may not be made.
          attempt_seconds: how long an operation on Cloud Storage is retried within an attempt.
          clock: gives seconds since some moment.
          pause: waits for a condition, which the caller holds, or for so many seconds.
        """
        self.superseded = 0
        self.refusal: TrainingStopped | None = None
        self._require = require
        self._attempt_seconds = ATTEMPT_SECONDS if attempt_seconds is None else attempt_seconds
        self._clock = clock
        self._pause = pause
        self._changed = threading.Condition()
        self._numbers = itertools.count(1)
        self._waiting: dict[str, Write] = {}
        self._under_way: Write | None = None
        self._written: dict[str, tuple[int, float]] = {}  # by name, the number and the time of the last one made
        self._waiters = 0
        self._required_failures = 0
        self._closed = False
        self._log = FailureLog("written", clock)
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)

    def publish(self, path: str, parts: Sequence[bytes], rest_seconds: float = 0.0, required: bool = True) -> None:
        """Hands over the whole content of a file, which is the parts one after the other; see `put`."""
        parts = tuple(parts)
        self.put(path, lambda: storage.write_bytes(path, b"".join(parts)), rest_seconds, required)

    def put(self, name: str, make: Callable[[], None], rest_seconds: float = 0.0, required: bool = True) -> None:
        """Hands over a write, and returns at once. After `close` it comes to nothing.

        Args:
          name: what is written, for messages; a newer write of the same name takes its place.
          make: writes, and raises if that fails; called on the publisher's thread.
          rest_seconds: how long after the last write of this name it is made, unless somebody waits for it.
          required: whether `wait` waits for it.
        """
        with self._changed:
            if self._closed:
                return
            write = Write(name, make, required, next(self._numbers), self._due(name, rest_seconds), FIRST_PAUSE_SECONDS)
            before = self._waiting.get(name)
            if before:
                write.take_place_of(before)
            self.superseded += before is not None
            self._waiting[name] = write
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()

    def drop(self, name: str) -> None:
        """Gives up the write of a name that waits, if there is one; an attempt under way goes on."""
        with self._changed:
            self.superseded += self._waiting.pop(name, None) is not None

    def wait(self, deadline: Deadline, optional_too: bool = False, until_failure: bool = False) -> bool:
        """Waits until everything required that was handed over before is written; returns whether it is.

        What rests or pauses is tried at once, also what is not required.

        Args:
          deadline: when to wait no longer.
          optional_too: whether to wait for what is not required as well.
          until_failure: whether to wait no longer once an attempt for something required fails.
        """
        with self._changed:
            wanted = {one.name: one.number for one in self._pending() if one.required or optional_too}
            for write in self._waiting.values():
                write.due = min(write.due, self._clock())
            failures = self._required_failures
            self._waiters += 1
            self._changed.notify_all()
            try:
                self._wait_while(
                    lambda: self._lacks(wanted) and not (until_failure and self._required_failures > failures),
                    deadline,
                )
            finally:
                self._waiters -= 1
            return self.refusal is None and not self._lacks(wanted)

    def wait_while_healthy(self, deadline: Deadline, is_healthy: Callable[[], bool] = lambda: True) -> bool:
        """Waits until everything required is written, unless a write of that fails or something else is not healthy.

        Returns whether everything required is written.
        """
        with self._changed:
            self._wait_while(lambda: self.unwritten() and not self.failures() and is_healthy(), deadline)
            return not self.unwritten()

    def require_written(self, deadline: Deadline) -> None:
        """Waits like `wait`, until a failure; raises `NotWritten` if not everything required is written."""
        if not self.wait(deadline, until_failure=True):
            name, reason = next(iter(self.unwritten().items()), ("", "the folder was lost"))
            raise NotWritten(f"{name} is not written yet: {reason}")

    def failures(self) -> dict[str, str]:
        """Returns why the last attempt failed, by the name of what is required and not written since."""
        with self._changed:
            return {one.name: one.failure for one in self._pending() if one.required and one.failure is not None}

    def unwritten(self) -> Mapping[str, str]:
        """Returns the names of the required writes that are not made yet, and why the last attempt failed."""
        with self._changed:
            return {one.name: one.failure or "it takes too long" for one in self._pending() if one.required}

    def close(self, deadline: Deadline) -> Mapping[str, str]:
        """Waits like `wait`, then ends the writing; returns what is `unwritten`.

        What is not required gets a few seconds more if the rest is written, and is not returned. An attempt under
        way goes on, but holds neither the caller nor the end of the process. Closed before, it returns nothing.
        """
        if self.wait(deadline):
            self.wait(Deadline(OPTIONAL_SECONDS, self._clock), optional_too=True)
        with self._changed:
            missing = {} if self._closed else self.unwritten()
            self._close()
            return missing

    def _due(self, name: str, rest_seconds: float) -> float:
        now = self._clock()
        return max(now, self._written[name][1] + rest_seconds) if name in self._written else now

    def _close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._changed.notify_all()

    def _run(self) -> None:
        with trying_for(self._attempt_seconds):
            while self._make_next():
                pass

    def _make_next(self) -> bool:
        """Makes one attempt when one is due, False at the end. It keeps no write, so that memory is free meanwhile."""
        write = self._next()
        if write is None:
            return False
        try:
            self._require()
            write.make()
        except TrainingStopped as error:
            self._stop(error)
        except Exception as error:  # Whatever the storage raises, training is worth more than a file.
            self._failed(write, reason_of(error))
        else:
            self._succeeded(write)
        return True

    def _next(self) -> Write | None:
        """Waits for the first write that is due and takes it, or returns None at the end."""
        with self._changed:
            while not self._closed:
                first = min(self._waiting.values(), key=lambda one: (one.due, one.number), default=None)
                seconds = None if first is None else first.due - self._clock()
                if first is not None and seconds <= 0:
                    self._under_way = self._waiting.pop(first.name)
                    return first
                self._pause(self._changed, seconds)
            return None

    def _succeeded(self, write: Write) -> None:
        with self._changed:
            others_fail = any(one.failure is not None for one in self._waiting.values())
        if not others_fail:
            self._log.succeeded(write.name)
        with self._changed:
            self._under_way = None
            self._written[write.name] = write.number, self._clock()
            self._changed.notify_all()

    def _failed(self, write: Write, reason: str) -> None:
        """Tries the write again after a pause, or the newer one that has taken its place."""
        self._log.failed(write.name, reason)
        with self._changed:
            self._under_way = None
            if self._closed:
                return
            self.superseded += write.name in self._waiting
            self._required_failures += write.required
            again = self._waiting.setdefault(write.name, write)
            pause = min(write.pause_seconds, AWAITED_PAUSE_SECONDS) if self._waiters else write.pause_seconds
            again.due = self._clock() + pause
            again.pause_seconds = min(2 * write.pause_seconds, LONGEST_PAUSE_SECONDS)
            again.failure = reason
            self._changed.notify_all()

    def _stop(self, error: TrainingStopped) -> None:
        with self._changed:
            self._under_way = None
            self.refusal = error
            self._close()

    def _pending(self) -> Iterator[Write]:
        yield from self._waiting.values()
        if self._under_way:
            yield self._under_way

    def _lacks(self, wanted: Mapping[str, int]) -> bool:
        return any(self._written.get(name, (0, 0.0))[0] < number for name, number in wanted.items())

    def _wait_while(self, unfinished: Callable[[], object], deadline: Deadline) -> None:
        while not self._closed and unfinished() and (left := deadline.seconds_left()) > 0:
            self._pause(self._changed, min(left, LONGEST_LOOK_AWAY_SECONDS))  # a deadline may come nearer meanwhile
