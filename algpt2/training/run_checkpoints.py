"""The checkpoints of one run: restored by all of its workers, written by their chief, in the background."""

import contextlib
import functools
import time
from collections.abc import Iterator
from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.checkpoints.background_writer import CheckpointWriter
from algpt2.checkpoints.folder import (
    MARKER_NAME,
    Checkpoint,
    CheckpointState,
    checkpoint_folder,
    delete_old_checkpoints,
    delete_unfinished_checkpoints,
    newest_intact_checkpoint,
)
from algpt2.checkpoints.save_load import Snapshot, restore_checkpoint, save_checkpoint, take_snapshot
from algpt2.data.tokenizer_files import TOKENIZER_NAME
from algpt2.devices.workers import Workers
from algpt2.errors import TrainingStopped, UserError
from algpt2.runs.plan import Run
from algpt2.training.spikes import SkipState
from algpt2.training.step import TrainStep


class RunCheckpoints:
    """Saves and restores a run's parameters, optimizer state and step."""

    def __init__(self, run: Run, train_step: TrainStep, workers: Workers):
        self.run = run
        self.train_step = train_step
        self.workers = workers
        self.writer = CheckpointWriter()
        self.tokenizer_json = storage.read_bytes(storage.join(run.train_records.folder, TOKENIZER_NAME))
        self._last_save_time = time.monotonic()
        self.times = SaveTimes()

    def restore(self) -> int:
        """Returns the step to go on from: the chief's newest intact checkpoint's, or 0."""
        newest = None
        if self.workers.is_chief:
            storage.delete_temporary_files(self.run.model_dir)
            delete_unfinished_checkpoints(self.run.model_dir)
            newest = newest_intact_checkpoint(self.run.model_dir)
        step = self.workers.from_chief(newest.step if newest else 0)
        if step == 0:
            return 0
        folder = checkpoint_folder(self.run.model_dir, step)
        if not storage.exists(folder):
            raise UserError(
                f"every worker must see the same --model_dir, and this one has no {folder}: share the folder."
            )
        state = restore_checkpoint(newest or Checkpoint(folder), self.train_step.model, self.train_step.optimizer)
        logging.info("resuming from %s", folder)
        if state.skips:
            window_steps = self.train_step.skips.window.shape[1]
            self.train_step.skips = SkipState.from_json(state.skips, window_steps)
        if state.n_replicas != self.train_step.n_replicas:
            logging.warning(
                "%s was written with %d replicas and this is %d: same batches, other dropout masks",
                folder,
                state.n_replicas,
                self.train_step.n_replicas,
            )
        return step

    def is_due_by_time(self) -> bool:
        """Returns whether `save_every_minutes` have gone by since the last save; the chief's clock counts."""
        minutes = self.run.cadence.save_every_minutes
        if not minutes:
            return False
        return bool(self.workers.from_chief(time.monotonic() - self._last_save_time >= 60 * minutes))

    def save(self, step: int) -> None:
        """Copies everything now and writes it in the background.

        Called by every worker; only the chief writes. A save is left out while the one before it cannot be written.
        """
        self._last_save_time = time.monotonic()
        if not self.workers.is_chief:
            return
        with self.times.holding_up():
            if not self.writer.wait_while_healthy():
                logging.warning("step %d  not saved: the checkpoint before it is still being written", step)
                return
            self.writer.start(self._write_of(step))

    def save_and_wait(self, step: int) -> None:
        """Saves, and returns on every worker when the checkpoint is committed.

        Raises:
          TrainingStopped: it could not be written.
        """
        with self.times.holding_up():
            if self.workers.is_chief and not self._is_committed(step):
                self.writer.start(self._write_of(step))
            written = self.writer.wait()
        if self.workers.any(not written):
            raise TrainingStopped(
                f"the checkpoint of step {step} could not be written ({self.writer.last_error or 'see the chief'}): "
                "make room or mend the storage, and run the same command again."
            )

    def new_metrics(self) -> dict[str, Any]:
        """Returns what saving took since the last call, and the checkpoints that this process could not write."""
        return {**self.times.since_last_call(), "failed_checkpoints": self.writer.failures}

    def _is_committed(self, step: int) -> bool:
        self.writer.wait()
        folder = checkpoint_folder(self.run.model_dir, step)
        return storage.exists(storage.join(folder, MARKER_NAME))

    def _write_of(self, step: int) -> functools.partial:
        snapshot = take_snapshot(self.train_step.model, self.train_step.optimizer)
        return functools.partial(self._write, step, snapshot, self.train_step.skips.to_json())

    def _write(self, step: int, snapshot: Snapshot, skips: dict[str, Any]) -> None:
        start = time.monotonic()
        state = CheckpointState(
            step=step,
            tokens=step * self.run.tokens_per_step,
            train_config=self.run.train_config.to_dict(),
            train_fingerprint=self.run.train_records.fingerprint,
            n_replicas=self.train_step.n_replicas,
            skips=skips,
        )
        folder = checkpoint_folder(self.run.model_dir, step)
        save_checkpoint(folder, snapshot, state, self.tokenizer_json)
        cadence = self.run.cadence
        delete_old_checkpoints(self.run.model_dir, cadence.keep_checkpoints, cadence.keep_every_steps)
        seconds = time.monotonic() - start
        self.times.add_write(seconds)
        logging.info("step %d  saved %s in %.1f s", step, folder, seconds)


class SaveTimes:
    """How long a process's checkpoints took to write, in the background, and how long they held up its steps."""

    def __init__(self) -> None:
        self._write_seconds = 0.0
        self._wait_seconds = 0.0
        self._last_write_seconds: float | None = None
        self._waited_at_last_call = 0.0

    @contextlib.contextmanager
    def holding_up(self) -> Iterator[None]:
        """Counts the block as time in which no step can run."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._wait_seconds += time.monotonic() - start

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
        """Returns both sums."""
        return {"checkpoint_seconds": self._write_seconds, "checkpoint_wait_seconds": self._wait_seconds}
