"""Saving and restoring a run: all of its workers restore, their chief writes, in the background."""

import functools

from absl import logging

from algpt2.checkpoints.background_writer import CheckpointWriter
from algpt2.checkpoints.save_load import Snapshot, take_snapshot
from algpt2.devices.workers import Workers
from algpt2.errors import TrainingStopped
from algpt2.storage.deadline import Deadline
from algpt2.training import run_files
from algpt2.training.checkpoint_store import CheckpointStore
from algpt2.training.loop_state import LoopState
from algpt2.training.save_times import SaveTimer, SaveTimes
from algpt2.training.spikes import SkipState
from algpt2.training.step import TrainStep


class RunCheckpoints:
    """Saves and restores a run's parameters, optimizer state and `LoopState`. Every worker calls every method."""

    def __init__(
        self,
        store: CheckpointStore,
        train_step: TrainStep,
        workers: Workers,
        timer: SaveTimer,
        writer: CheckpointWriter,
    ):
        self.times = SaveTimes()
        self._store = store
        self._train_step = train_step
        self._workers = workers
        self._timer = timer
        self._writer = writer
        self._handed_over_step: int | None = None

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
        """Copies everything now and writes it in the background, instead of an earlier copy that cannot be written."""
        self._timer.restart()
        with self.times.holding_up():
            if self._workers.is_chief:
                self._writer.wait_while_healthy()
            self._hand_over(state)

    def save_and_wait(self, state: LoopState, deadline: Deadline) -> None:
        """Saves, and returns on every worker when the checkpoint is committed.

        Raises:
          TrainingStopped: it could not be written in time.
        """
        with self.times.holding_up():
            if state.step not in (self._store.newest_step, self._handed_over_step):
                self._hand_over(state)
            written = self._writer.wait(deadline)
        failed = self._workers.any(not written)
        if self._writer.refusal:
            raise self._writer.refusal
        if failed:
            error = self._not_saved(state)
            self._writer.give_up()
            raise error

    def close(self) -> None:
        """Gives a write under way time to end, and says so in the log if it does not."""
        if not self._writer.close(Deadline(run_files.LAST_SECONDS)):
            logging.error("the checkpoint of step %s is not written", self._handed_over_step)

    def new_metrics(self) -> dict[str, float]:
        """Returns what saving took since the last call, and the checkpoints that this process could not write."""
        return {**self.times.since_last_call(), "failed_checkpoints": self._writer.failures}

    def _hand_over(self, state: LoopState) -> None:
        """Copies everything, for which the workers gather what they share out, and lets the chief write it."""
        model, optimizer = self._train_step.model, self._train_step.optimizer
        self._writer.drop_waiting()
        if self._workers.is_chief or optimizer.is_shared_out:
            snapshot = take_snapshot(model, optimizer)
        if self._workers.is_chief:
            self._writer.start(functools.partial(self._write, state, snapshot))
        self._handed_over_step = state.step

    def _write(self, state: LoopState, snapshot: Snapshot) -> None:
        self.times.add_write(self._store.write(state, snapshot))

    def _not_saved(self, state: LoopState) -> TrainingStopped:
        reason = self._writer.last_failure() or "see the chief"
        newest = self._store.newest_step
        last = "there is none before it" if newest is None else f"the last one is that of step {newest}"
        return TrainingStopped(
            f"the checkpoint of step {state.step} could not be written ({reason}), and {last}: make room or mend the "
            "storage, and run the same command again."
        )
