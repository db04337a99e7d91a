"""The training loop: steps, log lines, evaluations, checkpoints, exact resume, and stopping when asked to."""

import contextlib
import dataclasses
import functools
import time
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
from absl import logging

from algpt2 import storage
from algpt2.config.step_shape import shape_at, steps_until_next_shape
from algpt2.devices.chips import peak_flops
from algpt2.devices.host_memory import out_of_memory
from algpt2.devices.strategies import device_kind
from algpt2.devices.workers import Workers, lost_workers
from algpt2.errors import Interrupted, TrainingStopped
from algpt2.model.gpt import GPT
from algpt2.model.sizes import training_flops_per_token
from algpt2.optim.create import TRAINERS_OWN, OptimizerFactory
from algpt2.records.input_pipeline import record_ids, train_batches
from algpt2.records.input_stream import InputStream
from algpt2.records.reading_errors import InputOutage, reading_errors
from algpt2.records.record_set import load_tokenizer
from algpt2.records.record_watch import RecordWatch
from algpt2.runs.folder import MADE_BY, RESULT_KINDS, RESULT_NAME, RunRecord, record_changes
from algpt2.runs.plan import Run
from algpt2.storage import json_files
from algpt2.storage.deadline import Deadline
from algpt2.storage.publisher import Publisher
from algpt2.tracking.metrics import EvaluationResult, Metrics
from algpt2.tracking.run_log import RunLog
from algpt2.tracking.sinks import open_sinks
from algpt2.tracking.throughput import ThroughputMeter
from algpt2.training import run_files
from algpt2.training.checkpoint_store import CheckpointStore, Provenance
from algpt2.training.evaluations import Evaluation, EvaluationTexts, create_evaluations
from algpt2.training.initial_weights import find_initial_weights, set_initial_weights
from algpt2.training.input_progress import Batch, Batches
from algpt2.training.loop_state import LoopState
from algpt2.training.process import Process, claimed_folder
from algpt2.training.run_checkpoints import RunCheckpoints
from algpt2.training.save_times import Clock, SaveTimer
from algpt2.training.stall_warning import InputCounts, StallWatch
from algpt2.training.start_checks import require_start
from algpt2.training.step import TrainStep, create_model
from algpt2.training.step_guard import SkipLog, StepGuard
from algpt2.training.stop_signals import StopSignals


def train(
    run: Run,
    strategy: tf.distribute.Strategy,
    clock: Clock = time.monotonic,
    create_optimizer: OptimizerFactory = TRAINERS_OWN,
) -> dict[str, Any]:
    """Runs, or resumes, a run to its last step; returns the final figures, which `result.json` keeps.

    Every worker process of the strategy calls it; the chief alone writes.

    Args:
      run: what to train, on what, and where.
      strategy: the devices; see `algpt2.devices.strategies`.
      clock: seconds since some moment, by which `save_every_minutes` is counted.
      create_optimizer: makes the run's `optimizer_changes`, and no others.

    Raises:
      ValueError: the changes are others than those that the run names.
      UserError: a record is damaged or does not fit the model, or the folder belongs to another run or process.
      TrainingStopped: the loss or gradient is no longer finite, a worker or the folder is lost, or the end cannot be
        saved.
      Interrupted: a signal asked the run to stop, and it has saved.
    """
    if create_optimizer.names != run.optimizer_changes:
        raise ValueError(f"the run has the changes {run.optimizer_changes} and the factory {create_optimizer.names}")
    found = require_start(run, strategy)  # What is wrong is refused before anything is written.
    texts = EvaluationTexts(found["prompts"], found["benchmarks"])
    workers = Workers(strategy)
    with contextlib.ExitStack() as stack:
        claim = stack.enter_context(claimed_folder(run.model_dir, run.identity)) if workers.is_chief else None
        process = Process(workers, stack.enter_context(StopSignals(run.model_dir)), claim)
        stack.enter_context(lost_workers(workers.count))
        stack.enter_context(reading_errors(*run.record_sets()))
        stack.enter_context(out_of_memory("lower --batch_size, raise --accumulation_steps or give --remat block"))
        trainer = build_trainer(run, strategy, process, texts, clock, create_optimizer)
        with trainer.stall_watch:
            return trainer.train()


def build_trainer(
    run: Run,
    strategy: tf.distribute.Strategy,
    process: Process,
    texts: EvaluationTexts,
    clock: Clock = time.monotonic,
    create_optimizer: OptimizerFactory = TRAINERS_OWN,
) -> "Trainer":
    """Restores a run, whose folder is claimed, and returns the trainer that goes on with it."""
    with strategy.scope():
        model = create_model(run.model_config, run.train_config)
    train_step = TrainStep(strategy, model, run.train_config, create_optimizer)
    store = CheckpointStore(run.model_dir, Provenance.of(run, train_step.n_replicas), run.cadence)
    timer = SaveTimer(run.cadence.save_every_minutes, clock)
    publisher = run_files.create_publisher(process.claim)
    writer = run_files.create_checkpoint_writer(process.claim, publisher)
    checkpoints = RunCheckpoints(store, train_step, process.workers, timer, writer)
    state = checkpoints.restore()
    if state.step == 0 and run.initial_weights:
        _begin_with_initial_weights(run, model)
    if process.claim:
        _record_changes(run, process.claim.record, state.step)
    return Trainer(
        run=run,
        process=process,
        train_step=train_step,
        evaluations=create_evaluations(run, train_step, texts, process.is_chief),
        checkpoints=checkpoints,
        guard=_create_guard(run, state.step, publisher, process.is_chief),
        log=_create_log(run, strategy, state.step, publisher, process.is_chief),
        publisher=publisher,
        record_watch=RecordWatch(run.train_records),
        stall_watch=StallWatch(train_step.input_progress.counts, ", ".join(run.train_records.folders)),
        state=state,
    )


@dataclasses.dataclass
class Trainer:
    """One process's loop over the steps of a run. `state` is where it stands, and nothing else changes that."""

    run: Run
    process: Process
    train_step: TrainStep
    evaluations: tuple[Evaluation, ...]
    checkpoints: RunCheckpoints
    guard: StepGuard
    log: RunLog
    publisher: Publisher
    record_watch: RecordWatch
    stall_watch: StallWatch
    state: LoopState

    def train(self) -> dict[str, Any]:
        """Goes on to the last step; returns the figures of `result.json`. See the function `train`."""
        self._log_start()
        result_path = storage.join(self.run.model_dir, RESULT_NAME)
        if self.process.workers.from_chief(self._is_last_step() and storage.exists(result_path)):
            return json_files.read_object(result_path, MADE_BY, kinds=RESULT_KINDS)
        with run_files.publishing(self.publisher, self.process.stop), self.log, contextlib.closing(self.checkpoints):
            result = self._result(self._run_to_the_end())
            if self.process.is_chief:
                self.publisher.publish(result_path, [(json_files.dumps(result, indent=2) + "\n").encode()])
        return result

    def _run_to_the_end(self) -> dict[str, float | None]:
        """Returns the figures of the last step's evaluations."""
        if self._is_last_step():  # the lines of its evaluations were written before its checkpoint
            return _metrics_of(evaluation.run() for evaluation in self._due_evaluations())
        cadence, figures = self.run.cadence, {}
        stream = InputStream(self._batches())
        while not self._is_last_step():
            self._advance(stream.iterator)
            if self._is_due(cadence.log_every_steps):
                self._log_steps()
            figures |= self._evaluate(self._due_evaluations())
            if self.process.must_stop():
                self._interrupt()
            if self._is_due(cadence.save_every_steps) or self.checkpoints.is_due_by_time():
                self._evaluate([one for one in self.evaluations if one.every_steps is None])
                self.checkpoints.save(self.state)
        stream.close()
        self.checkpoints.save_and_wait(self.state, run_files.EndDeadline(self.process.stop))
        return figures

    def _advance(self, batches: Batches) -> None:
        """Makes the steps up to the next thing to do."""
        self.record_watch.begin_epoch(self.run.epoch_of(self.state.step))
        before, n_steps = self.state, self._steps_until_next_stop()
        shape = shape_at(before.step, self.run.train_config, self.run.model_config)
        try:
            with (
                reading_errors(self.run.train_records),
                self.log.meter.measuring(n_steps) as measured,
                self.stall_watch.steps(n_steps, graph=shape) as counts,
            ):
                results, skips = self.train_step(batches, before.step, n_steps, before.skips)
        except InputOutage:
            self._save_if_whole(counts)
            raise
        self.process.require_folder(before.step)
        self.guard.check(before.step, results, before.skips)
        self.state = LoopState(before.step + n_steps, skips)
        self.log.add_steps(results, measured.seconds)
        if self._is_last_step():
            self.record_watch.require_unchanged()  # No epoch begins any more that would find it.

    def _save_if_whole(self, counts: InputCounts) -> None:
        """Saves, if the graph call that failed got no batch, so that the state is that after the call before it.

        A call that failed later has made some of its steps, of which the last may be half made. With several workers
        nothing is saved, because all would have to agree, and the others wait in a step.

        Args:
          counts: those before the call that failed.
        """
        asked = self.train_step.input_progress.counts().asked - counts.asked
        if asked != 1 or self.process.workers.count > 1 or self.state.step == 0:
            return
        try:
            self.process.require_folder(self.state.step)
            self.checkpoints.save_and_wait(self.state, Deadline(run_files.STOP_SECONDS))
        except TrainingStopped as failure:  # It must not hide why the run ends.
            logging.warning("%s", failure)

    def _steps_until_next_stop(self) -> int:
        """Returns how many steps the next graph call makes."""
        step, config = self.state.step, self.run.train_config
        stops = [
            self.run.cadence.steps_until_next_stop(step, config.total_steps),
            steps_until_next_shape(step, config, self.run.model_config),
            *(evaluation.steps_until_due(step) for evaluation in self.evaluations),
        ]
        return min(stop for stop in stops if stop is not None)

    def _log_steps(self) -> None:
        learning_rate = self.train_step.learning_rate_of(self.state.step - 1)
        self.log.write_steps(learning_rate, self.state.skips.skipped_steps, self.checkpoints.new_metrics())

    def _evaluate(self, evaluations: Iterable[Evaluation]) -> dict[str, float | None]:
        """Runs evaluations and writes what they come to; returns their figures."""
        results = {evaluation.name: evaluation.run() for evaluation in evaluations}
        if results:
            self.process.require_folder(self.state.step)
            self.log.write_evaluations(results)
        return _metrics_of(results.values())

    def _interrupt(self) -> None:
        self.checkpoints.save_and_wait(self.state, Deadline(run_files.STOP_SECONDS))
        raise Interrupted(
            f"{self.process.signal_name()} stopped the run after step {self.state.step} of "
            f"{self.run.train_config.total_steps}, which is saved: run the same command again to go on."
        )

    def _is_last_step(self) -> bool:
        return self.state.step == self.run.train_config.total_steps

    def _is_due(self, period: int) -> bool:
        return self.state.step % period == 0 or self._is_last_step()

    def _due_evaluations(self) -> list[Evaluation]:
        total_steps = self.run.train_config.total_steps
        return [one for one in self.evaluations if one.is_due(self.state.step, total_steps)]

    def _batches(self) -> Iterable[Batch]:
        records, config, first_step = self.run.train_records, self.run.train_config, self.state.step
        return self.train_step.strategy.distribute_datasets_from_function(
            lambda context: train_batches(records, config.batch_size, config.seed, first_step, context)
        )

    def _log_start(self) -> None:
        logging.info(
            "%d parameters, %d bytes of optimizer state on each replica, %d replicas of %d workers, step %d of %d",
            self.run.model_config.parameter_count(),
            self.train_step.optimizer.state_bytes(),
            self.train_step.n_replicas,
            self.process.workers.count,
            self.state.step,
            self.run.train_config.total_steps,
        )
        if self.run.train_config.shard_optimizer_state and self.train_step.n_replicas == 1:
            logging.info("--shard_optimizer_state shares nothing out, because there is one replica")
        for records in self.run.record_sets():
            for loss in records.losses:
                logging.warning("%s", loss)
            if records.packs_conversations and self.run.model_config.document_eos_id is None:
                logging.warning(
                    "in %s conversations share a record, and see each other without --document_mask", records.folder
                )

    def _result(self, figures: Metrics) -> dict[str, Any]:
        return {
            "model_dir": self.run.model_dir,
            "parameters": self.run.model_config.parameter_count(),
            "step": self.state.step,
            "tokens": self.state.step * self.run.tokens_per_step,
            "tokens_per_second": self.log.meter.tokens_per_second,
            "step_fraction": self.log.meter.step_fraction,
            **self.checkpoints.times.totals(),
            "skipped_steps": self.state.skips.skipped_steps,
            **figures,
        }


def _metrics_of(results: Iterable[EvaluationResult]) -> dict[str, float | None]:
    return {key: value for result in results for key, value in result.metrics.items()}


def _begin_with_initial_weights(run: Run, model: GPT) -> None:
    tokenizer = load_tokenizer(run.train_records.folder, run.train_records.tokenizer_sha256)
    checkpoint = find_initial_weights(run.initial_weights, run.model_config, tokenizer)
    set_initial_weights(model, checkpoint, tokenizer)
    logging.info("initial weights of %s", checkpoint)


def _record_changes(run: Run, record: RunRecord, step: int) -> None:
    for name, (before, now) in record_changes(run.model_dir, record, run.identity, step).items():
        logging.warning("from step %d on %s is %r, before %r", step, name, now, before)


def _create_guard(run: Run, first_step: int, publisher: Publisher, is_chief: bool) -> StepGuard:
    config = run.train_config
    if not is_chief:
        return StepGuard(config.max_skips, None)
    records_of = functools.partial(record_ids, run.train_records, config.batch_size, config.seed)
    return StepGuard(config.max_skips, SkipLog(run.model_dir, first_step, records_of, publisher))


def _create_log(
    run: Run, strategy: tf.distribute.Strategy, first_step: int, publisher: Publisher, is_chief: bool
) -> RunLog:
    meter = ThroughputMeter(run.tokens_per_step, _peak_tokens_per_second(run, strategy))
    if not is_chief:
        return RunLog(first_step, run.train_config.total_steps, meter)
    sinks = functools.partial(open_sinks, run.model_dir, run.tracking, first_step, run.describe(), publisher)
    return RunLog(first_step, run.train_config.total_steps, meter, sinks)


def _peak_tokens_per_second(run: Run, strategy: tf.distribute.Strategy) -> float | None:
    """Returns the throughput at which the devices would do nothing but useful arithmetic at their peak, if known."""
    kind = run.tracking.device_kind or device_kind(strategy)
    if kind is None:
        return None
    return peak_flops(strategy.num_replicas_in_sync, kind) / training_flops_per_token(run.model_config)
