"""One process's part in a run: the other workers, the signals that ask it to stop, and the folder that it holds."""

import contextlib
import dataclasses
from collections.abc import Iterator

from algpt2.devices.workers import Workers
from algpt2.errors import TrainingStopped
from algpt2.runs.folder import RunIdentity, RunRecord, begin_run_folder, claim_run_folder, require_places
from algpt2.storage.folder_lock import Lock, locked
from algpt2.training.stop_signals import StopSignals


@dataclasses.dataclass(frozen=True)
class Claim:
    """The chief's hold on the run's folder, and what `run.json` says since it has it."""

    model_dir: str
    lock: Lock
    record: RunRecord


@contextlib.contextmanager
def claimed_folder(model_dir: str, identity: RunIdentity) -> Iterator[Claim]:
    """Holds a run's folder, which becomes this run's if it is new; `run.json` is read once.

    Raises:
      UserError: the folder holds something else, another run or one under way, or cannot be used.
    """
    require_places(model_dir)
    begin_run_folder(model_dir, identity)
    with locked(model_dir) as lock:
        # Another run may have begun the folder in the same instant, so only what is read under the lock counts.
        yield Claim(model_dir, lock, claim_run_folder(model_dir, identity))


@dataclasses.dataclass(frozen=True)
class Process:
    """A worker of a run. `claim` is the chief's; the others have none and write nothing."""

    workers: Workers
    stop: StopSignals
    claim: Claim | None

    @property
    def is_chief(self) -> bool:
        """Whether this is the worker that writes."""
        return self.workers.is_chief

    def must_stop(self) -> bool:
        """Returns whether a signal has asked any of the workers to stop; every worker must ask at the same step."""
        return self.workers.any(self.stop.received is not None)

    def signal_name(self) -> str:
        """Returns what asked the run to stop."""
        return self.stop.received.name if self.stop.received else "another worker's signal"

    def require_folder(self, step: int) -> None:
        """Raises `TrainingStopped` if another process may have the folder by now; called before each write.

        Args:
          step: the steps done, which the sentence names.
        """
        if self.claim and self.claim.lock.lost:
            raise TrainingStopped(
                f"{self.claim.model_dir} was taken over while this process could not reach it, which stopped it after "
                f"step {step} without saving: leave the run to the other, or end that and start this one again."
            )
