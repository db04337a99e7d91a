"""Writes checkpoints on a thread of its own while training goes on: the newest one, until it is written."""

from collections.abc import Callable

from absl import logging

from algpt2.errors import TrainingStopped
from algpt2.storage.deadline import Deadline
from algpt2.storage.publisher import Publisher

THREAD_NAME = "checkpoint writer"
LONGEST_WAIT_SECONDS = 60.0
LONGEST_END_SECONDS = 600.0
LINES_SECONDS = 60.0
ATTEMPT_SECONDS = 30.0

A_CHECKPOINT = "a checkpoint"


class CheckpointWriter:
    """Writes one checkpoint at a time, and tries one that fails again until a newer one takes its place.

    At most two are in memory, with the copies that they hold: the one that an attempt is under way for, and the newest.
    """

    def __init__(self, require: Callable[[], None] = lambda: None, lines: Publisher | None = None):
        """Starts no thread yet.

        Args:
          require: called before each attempt; raises if the attempt may not be made.
          lines: writes what each checkpoint comes after: an attempt first waits until it has written all that it was
            given before, and fails if that does.
        """
        self._require = require
        self._lines = lines or Publisher("lines")
        self._publisher = Publisher(THREAD_NAME, self._require_all, ATTEMPT_SECONDS)

    @property
    def failures(self) -> int:
        """How many checkpoints were given up for newer ones."""
        return self._publisher.superseded

    @property
    def refusal(self) -> TrainingStopped | None:
        """What ended the writing for good, if anything did."""
        return self._publisher.refusal

    def wait_while_healthy(self) -> None:
        """Waits for the write under way, unless it is failing, or what it comes after, or it takes over a minute.

        So a healthy storage that is slower than the cadence of saves slows training down, and a broken one does not.
        """
        deadline = Deadline(LONGEST_WAIT_SECONDS)
        if not self._publisher.wait_while_healthy(deadline, lambda: not self._lines.failures()):
            logging.info("a checkpoint is not written yet, and gives way to the next if it cannot be")

    def drop_waiting(self) -> None:
        """Gives up what no attempt is under way for, so that there is room for the copy of a newer checkpoint."""
        self._publisher.drop(A_CHECKPOINT)

    def start(self, write: Callable[[], None]) -> None:
        """Hands over a write, and returns at once."""
        self._publisher.put(A_CHECKPOINT, write)

    def wait(self, deadline: Deadline) -> bool:
        """Waits for the newest write; returns whether it has succeeded."""
        return self._publisher.wait(deadline)

    def last_failure(self) -> str:
        """Returns why the newest write has not succeeded."""
        return next(iter(self._publisher.unwritten().values()), "")

    def give_up(self) -> None:
        """Ends the writing at once."""
        self._publisher.close(Deadline(0.0))

    def close(self, deadline: Deadline) -> bool:
        """Waits for a write under way, longer if it does not fail, and ends the writing; returns whether it is made.

        What is under way at the end of the process ends with it.
        """
        self._publisher.wait_while_healthy(Deadline(LONGEST_END_SECONDS))
        return not self._publisher.close(deadline)

    def _require_all(self) -> None:
        self._require()
        self._lines.require_written(Deadline(LINES_SECONDS))
