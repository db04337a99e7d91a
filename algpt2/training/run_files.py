"""The files that a run writes while it trains: in the background, under its lock, and for how long at its end."""

import contextlib
import functools
import time
from collections.abc import Iterator

from absl import logging

from algpt2.checkpoints.background_writer import CheckpointWriter
from algpt2.errors import TrainingStopped
from algpt2.storage.deadline import Deadline
from algpt2.storage.publisher import NotWritten, Publisher
from algpt2.training.process import Claim
from algpt2.training.save_times import Clock
from algpt2.training.stop_signals import StopSignals

END_SECONDS = 600.0
STOP_SECONDS = 60.0
LAST_SECONDS = 10.0


def create_publisher(claim: Claim | None) -> Publisher:
    """Returns what writes all files but the checkpoints, while the run's folder is certainly held."""
    return Publisher("publisher", functools.partial(require_hold, claim))


def create_checkpoint_writer(claim: Claim | None, publisher: Publisher) -> CheckpointWriter:
    """Returns what writes checkpoints, each after the lines up to its step: a resumed run does not write them again."""
    return CheckpointWriter(functools.partial(require_hold, claim), publisher)


def require_hold(claim: Claim | None) -> None:
    """Called before each attempt to write into the run's folder.

    Raises:
      TrainingStopped: another process has taken the folder over.
      NotWritten: one may have it, because the lock could not be renewed for too long.
    """
    if claim is None or claim.lock.confirmed:
        return
    if claim.lock.lost:
        raise TrainingStopped(
            f"{claim.model_dir} was taken over while this process could not reach it, and what it had not written yet "
            "is lost: leave the run to the other, or end that and start this one again."
        )
    raise NotWritten("the lock of the folder could not be renewed")


class EndDeadline(Deadline):
    """When the end of a run stops waiting for its files: after ten minutes, or a minute after a signal."""

    def __init__(self, stop: StopSignals, clock: Clock = time.monotonic):
        super().__init__(END_SECONDS, clock)
        self._stop = stop
        self._shortened = False

    def seconds_left(self) -> float:
        """Returns how long is left, at least 0."""
        if self._stop.received and not self._shortened:
            self._shortened = True
            self.shorten(STOP_SECONDS)
        return super().seconds_left()


@contextlib.contextmanager
def publishing(publisher: Publisher, stop: StopSignals) -> Iterator[None]:
    """Ends with all that the block has published written.

    Raises:
      TrainingStopped: the block ended without an error, and a file could not be written.
    """
    try:
        yield
    except BaseException:
        if missing := publisher.close(Deadline(LAST_SECONDS)):
            logging.error("not written: %s", _listed(missing))
        raise
    missing = publisher.close(EndDeadline(stop))
    if publisher.refusal:
        raise publisher.refusal
    if missing:
        raise TrainingStopped(
            f"the run is trained and its last checkpoint is saved, but these could not be written: {_listed(missing)}: "
            "make room or mend the storage, and run the same command again."
        )


def _listed(missing: dict[str, str]) -> str:
    return ", ".join(f"{name} ({reason})" for name, reason in missing.items())
