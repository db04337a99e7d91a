"""The checkpoints in a run's folder: the newest intact one, and writing one more, by the chief alone."""

import dataclasses
import time
from collections.abc import Callable

from absl import logging

from algpt2 import storage
from algpt2.checkpoints.folder import (
    Checkpoint,
    CheckpointState,
    checkpoint_folder,
    delete_old_checkpoints,
    delete_unfinished_checkpoints,
    newest_intact_checkpoint,
)
from algpt2.checkpoints.save_load import Snapshot, restore_checkpoint, save_checkpoint
from algpt2.config.cadence import Cadence
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.optim.base import GlobalGradientOptimizer
from algpt2.runs.plan import Run
from algpt2.storage.failure_log import reason_of
from algpt2.text.tokenizer_files import TOKENIZER_NAME
from algpt2.training.loop_state import LoopState
from algpt2.training.spikes import SkipState, window_steps


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What every checkpoint of a run says of the run it comes from. `tokenizer_json` is the whole file."""

    train_config: TrainConfig
    train_fingerprint: str
    tokens_per_step: int
    n_replicas: int
    tokenizer_json: bytes

    @classmethod
    def of(cls, run: Run, n_replicas: int) -> "Provenance":
        """Returns that of a run on so many replicas; reads the tokenizer beside its training records."""
        records = run.train_records
        tokenizer_json = storage.read_bytes(storage.join(records.folder, TOKENIZER_NAME))
        return cls(run.train_config, records.fingerprint, run.tokens_per_step, n_replicas, tokenizer_json)


class CheckpointStore:
    """One run's checkpoints, on a disk or on gs://.

    Attributes:
      newest_step: the step of the newest checkpoint that this process has restored or written, None before that.
    """

    def __init__(self, model_dir: str, provenance: Provenance, cadence: Cadence):
        """Takes from the cadence which checkpoints stay."""
        self.model_dir = model_dir
        self.provenance = provenance
        self.cadence = cadence
        self.newest_step: int | None = None
        self._deletion_refused = False

    def clean_up(self) -> Checkpoint | None:
        """Deletes what a killed process left unfinished; returns the newest intact checkpoint, if there is one."""
        storage.delete_temporary_files(self.model_dir)
        self._delete("unfinished", lambda: delete_unfinished_checkpoints(self.model_dir))
        return newest_intact_checkpoint(self.model_dir)

    def checkpoint_at(self, step: int) -> Checkpoint:
        """Returns the checkpoint of a step, which the chief has found intact.

        Raises:
          UserError: this process does not see it.
        """
        folder = checkpoint_folder(self.model_dir, step)
        if not storage.exists(folder):
            raise UserError(
                f"every worker must see the same --model_dir, and this one has no {folder}: share the folder."
            )
        return Checkpoint(folder)

    def restore(self, checkpoint: Checkpoint, model: GPT, optimizer: GlobalGradientOptimizer) -> LoopState:
        """Sets model and optimizer to a checkpoint; returns where the run stood."""
        state = restore_checkpoint(checkpoint, model, optimizer)
        self.newest_step = checkpoint.step
        logging.info("resuming from %s", checkpoint)
        if state.n_replicas != self.provenance.n_replicas:
            logging.warning(
                "%s was written with %d replicas and this is %d: same batches, other dropout masks",
                checkpoint,
                state.n_replicas,
                self.provenance.n_replicas,
            )
        config = self.provenance.train_config
        # Checkpoints of the first versions have no skips.
        skips = SkipState.from_json(state.skips, window_steps(config)) if state.skips else None
        return LoopState(checkpoint.step, skips or SkipState.before_first_step(config))

    def write(self, state: LoopState, snapshot: Snapshot) -> float:
        """Writes a checkpoint and deletes those that need not stay; returns the seconds that it took.

        That some cannot be deleted is a warning, because the run needs the room only.
        """
        start = time.monotonic()
        folder = checkpoint_folder(self.model_dir, state.step)
        save_checkpoint(folder, snapshot, self._checkpoint_state(state), self.provenance.tokenizer_json)
        self.newest_step = state.step
        keep, keep_every_steps = self.cadence.keep_checkpoints, self.cadence.keep_every_steps
        self._delete("old", lambda: delete_old_checkpoints(self.model_dir, keep, keep_every_steps))
        seconds = time.monotonic() - start
        logging.info("step %d  saved %s in %.1f s", state.step, folder, seconds)
        return seconds

    def _delete(self, kind: str, delete: Callable[[], None]) -> None:
        """Deletes checkpoints; of failures in a row, the first is logged."""
        try:
            delete()
            self._deletion_refused = False
        except Exception as error:  # Whatever the storage raises, what was saved is saved.
            if not self._deletion_refused:
                logging.warning(
                    "%s checkpoints in %s cannot be deleted (%s): they stay, and the run goes on",
                    kind,
                    self.model_dir,
                    reason_of(error),
                )
            self._deletion_refused = True

    def _checkpoint_state(self, state: LoopState) -> CheckpointState:
        return CheckpointState(
            step=state.step,
            tokens=state.step * self.provenance.tokens_per_step,
            train_config=self.provenance.train_config.to_dict(),
            train_fingerprint=self.provenance.train_fingerprint,
            n_replicas=self.provenance.n_replicas,
            skips=state.skips.to_json(),
        )
