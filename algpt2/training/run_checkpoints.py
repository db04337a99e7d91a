"""Saving and restoring a run: all of its workers restore, their chief writes, in the background."""

import functools

from absl import logging

from algpt2.checkpoints.background_writer import CheckpointWriter
from algpt2.checkpoints.save_load import Snapshot, take_snapshot
from algpt2.devices.workers import Workers
from algpt2.errors import TrainingStopped
from algpt2.training.checkpoint_store import CheckpointStore
from algpt2.training.loop_state import LoopState
from algpt2.training.save_times import SaveTimer, SaveTimes
from algpt2.training.spikes import SkipState
from algpt2.training.step import TrainStep


class RunCheckpoints:
    """Saves and restores a run's parameters, optimizer state and `LoopState`. Every worker calls every method."""

    def __init__(self, store: CheckpointStore, train_step: TrainStep, workers: Workers, timer: SaveTimer):
        self.times = SaveTimes()
        self._store = store
        self._train_step = train_step
        self._workers = workers
        self._timer = timer
        self._writer = CheckpointWriter()

    def restore(self) -> LoopState:
        """Returns where to go on: at the chief's newest intact checkpoint, whose state is set, or at the beginning."""
        newest = self._store.clean_up() if self._workers.is_chief else None
        step = self._workers.from_chief(newest.step if newest else 0)
        if step == 0:
            return LoopState(0, SkipState.before_first_step(self._train_step.config))
        checkpoint = newest or self._store.checkpoint_at(step)
        return self._store.restore(checkpoint, self._train_step.model, self._train_step.optimizer)

    def is_due_by_time(self) -> bool:
        """Returns whether `--save_every_minutes` have gone by since the last save; the chief's clock counts."""
        return self._timer.minutes > 0 and bool(self._workers.from_chief(self._timer.is_due()))

    def save(self, state: LoopState) -> None:
        """Copies everything now and writes it in the background.

        A save is left out while the one before it cannot be written.
        """
        self._timer.restart()
        if not self._workers.is_chief:
            return
        with self.times.holding_up():
            if not self._writer.wait_while_healthy():
                logging.warning("step %d  not saved: the checkpoint before it is still being written", state.step)
                return
            self._start_write(state)

    def save_and_wait(self, state: LoopState) -> None:
        """Saves, and returns on every worker when the checkpoint is committed.

        Raises:
          TrainingStopped: it could not be written.
        """
        with self.times.holding_up():
            self._writer.wait()
            if self._workers.is_chief and not self._store.has(state.step):
                self._start_write(state)
            written = self._writer.wait()
        if self._workers.any(not written):
            raise TrainingStopped(
                f"the checkpoint of step {state.step} could not be written "
                f"({self._writer.last_error or 'see the chief'}): make room or mend the storage, and run the same "
                "command again."
            )

    def wait(self) -> None:
        """Waits for a write under way; if the process ended before, the write would end with it."""
        self._writer.wait()

    def new_metrics(self) -> dict[str, float]:
        """Returns what saving took since the last call, and the checkpoints that this process could not write."""
        return {**self.times.since_last_call(), "failed_checkpoints": self._writer.failures}

    def _start_write(self, state: LoopState) -> None:
        snapshot = take_snapshot(self._train_step.model, self._train_step.optimizer)
        self._writer.start(functools.partial(self._write, state, snapshot))

    def _write(self, state: LoopState, snapshot: Snapshot) -> None:
        self.times.add_write(self._store.write(state, snapshot))
