"""The training loop: steps, log lines, validation, checkpoints, exact resume, and stopping when asked to."""

import contextlib
from typing import Any

import tensorflow as tf
from absl import logging

from algpt2 import storage
from algpt2.config.seq_len_warmup import steps_until_longer
from algpt2.data.input_pipeline import train_batches
from algpt2.data.record_set import load_tokenizer
from algpt2.data.tfrecords import record_errors
from algpt2.data.tokenizer import Tokenizer
from algpt2.devices.strategies import device_kind
from algpt2.devices.workers import Workers, lost_workers
from algpt2.errors import Interrupted, TrainingStopped
from algpt2.evaluation.scores import EMA_VALIDATION, VALIDATION, Losses, as_metrics
from algpt2.evaluation.validation import Validator
from algpt2.optim.moving_average import averaged_weights
from algpt2.runs.folder import MADE_BY, RESULT_NAME, claim_run_folder, read_run, record_changes
from algpt2.runs.plan import Run
from algpt2.storage import json_files
from algpt2.storage.folder_lock import Lock, locked
from algpt2.tracking import wandb_log
from algpt2.tracking.run_log import RunLog
from algpt2.training.initial_weights import find_initial_weights, set_initial_weights
from algpt2.training.numerics_guard import NumericsGuard, log_gap
from algpt2.training.run_checkpoints import RunCheckpoints
from algpt2.training.sampler import Sampler, sample_prompts
from algpt2.training.step import TrainStep, create_model
from algpt2.training.step_guard import StepGuard
from algpt2.training.stop_signals import StopSignals


def train(run: Run, strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """Runs, or resumes, a run to its last step; returns the final figures, which `result.json` keeps.

    Every worker process of the strategy calls it; the chief alone writes.

    Raises:
      UserError: a record is damaged or does not fit the model, or the folder belongs to another run or process.
      TrainingStopped: the loss or gradient is no longer finite, a worker or the folder is lost, or the end cannot be
        saved.
      Interrupted: a signal asked the run to stop, and it has saved.
    """
    # What is wrong is refused before anything is written.
    run.train_config.micro_batch_size(strategy.num_replicas_in_sync)
    tokenizer = load_tokenizer(run.train_records.folder, run.train_records.tokenizer_sha256)
    sample_prompts(run, tokenizer)
    wandb_log.require_installed(run.tracking.wandb_project)
    if run.initial_weights and not read_run(run.model_dir):
        find_initial_weights(run.initial_weights, run.model_config, tokenizer.sha256)
    workers, lock = Workers(strategy), None
    with contextlib.ExitStack() as stack:
        if workers.is_chief:
            claim_run_folder(run.model_dir, run.identity)
            lock = stack.enter_context(locked(run.model_dir))
            # Another run may have claimed the folder in the same instant; only one of them gets here at a time.
            claim_run_folder(run.model_dir, run.identity)
        stop = stack.enter_context(StopSignals())
        stack.enter_context(record_errors())
        stack.enter_context(lost_workers())
        trainer = Trainer(run, strategy, workers, stop, lock)
        trainer.sample_with(tokenizer)
        return trainer.train()


class Trainer:
    """One process's part in a run whose folder is claimed."""

    def __init__(
        self, run: Run, strategy: tf.distribute.Strategy, workers: Workers, stop: StopSignals, lock: Lock | None
    ):
        self.run = run
        self.strategy = strategy
        self.workers = workers
        self.stop = stop
        self.lock = lock  # the chief's
        with strategy.scope():
            self.model = create_model(run.model_config, run.train_config)
        self.train_step = TrainStep(strategy, self.model, run.train_config)
        self.validator = None
        if run.val_records:
            batch_size, jit_compile = run.train_config.batch_size, run.train_config.jit_compile
            self.validator = Validator(strategy, self.model, run.val_records, batch_size, jit_compile)
        self.numerics = None
        if run.cadence.numerics_batches:
            self.numerics = NumericsGuard(strategy, self.model, self.validator, run.train_config)
        self.checkpoints = RunCheckpoints(run, self.train_step, workers)
        self.step = self.checkpoints.restore()
        if self.step == 0 and run.initial_weights:
            sha256 = run.train_records.tokenizer_sha256
            folder = find_initial_weights(run.initial_weights, run.model_config, sha256)
            set_initial_weights(self.model, folder)
            logging.info("initial weights of %s", folder)
        if workers.is_chief:
            self._record_changes()
        self.guard = StepGuard(run, self.train_step.skips, self.step, workers.is_chief)
        kind = run.tracking.device_kind or device_kind(strategy)
        self.log = RunLog(run, self.step, workers.is_chief, strategy.num_replicas_in_sync, kind)
        self.sampler: Sampler | None = None

    def sample_with(self, tokenizer: Tokenizer) -> None:
        """Lets the chief sample the run's prompts at each validation; costs a copy of the model on the host."""
        if self.run.tracking.sample_prompt and self.workers.is_chief:
            self.sampler = Sampler(self.run, self.model, tokenizer, self.strategy)

    def _record_changes(self) -> None:
        changes = record_changes(self.run.model_dir, self.run.identity, self.step)
        for name, (before, now) in changes.items():
            logging.warning("from step %d on %s is %r, before %r", self.step, name, now, before)

    def train(self) -> dict[str, Any]:
        """See the function `train`."""
        logging.info(
            "%d parameters, %d bytes of optimizer state, %d replicas of %d workers, step %d of %d",
            self.run.model_config.parameter_count(),
            self.train_step.optimizer.state_bytes(),
            self.strategy.num_replicas_in_sync,
            self.workers.count,
            self.step,
            self.run.train_config.total_steps,
        )
        result_path = storage.join(self.run.model_dir, RESULT_NAME)
        finished = self.step == self.run.train_config.total_steps and storage.exists(result_path)
        if self.workers.from_chief(finished):
            return json_files.read_object(result_path, MADE_BY)
        with self.log:
            try:
                result = self._result(self._train())
            finally:
                self.checkpoints.writer.wait()  # or the process would end under a write that is under way
            if self.workers.is_chief:
                storage.write_text(result_path, json_files.dumps(result, indent=2) + "\n")
        return result

    def _train(self) -> Losses:
        """Returns the last validation's losses."""
        total_steps = self.run.train_config.total_steps
        if self.step == total_steps:  # its line was written before its checkpoint
            return self._scores()
        iterator = iter(self._batches())
        validated: Losses = {}
        while self.step < total_steps:
            self._advance(iterator)
            if self._is_due(self.run.cadence.log_every_steps):
                self._log()
            if self._is_due(self.run.cadence.eval_every_steps):
                validated = self._validate()
            if self.workers.any(self.stop.received is not None):
                self._interrupt()
            if self._is_due(self.run.cadence.save_every_steps) or self.checkpoints.is_due_by_time():
                self._check_numerics()
                self.checkpoints.save(self.step)
        self.checkpoints.save_and_wait(self.step)
        return validated

    def _require_lock(self) -> None:
        if self.lock and self.lock.lost:
            raise TrainingStopped(
                f"{self.run.model_dir} was taken over while this process could not reach it, which stopped it after "
                f"step {self.step} without saving: leave the run to the other, or end that and start this one again."
            )

    def _interrupt(self) -> None:
        self.checkpoints.save_and_wait(self.step)
        name = self.stop.received.name if self.stop.received else "another worker's signal"
        raise Interrupted(
            f"{name} stopped the run after step {self.step} of {self.run.train_config.total_steps}, which is saved: "
            "run the same command again to go on."
        )

    def _batches(self) -> Any:
        run = self.run
        return self.strategy.distribute_datasets_from_function(
            lambda context: train_batches(
                run.train_records, run.train_config.batch_size, run.train_config.seed, self.step, context
            )
        )

    def _advance(self, iterator: Any) -> None:
        """Makes the steps up to the next thing to do."""
        config = self.run.train_config
        n_steps = self.run.cadence.steps_until_next_stop(self.step, config.total_steps)
        if until_longer := steps_until_longer(self.step, config, self.run.model_config.seq_len):
            n_steps = min(n_steps, until_longer)
        with self.log.meter.measuring(n_steps) as measured:
            results = self.train_step(iterator, self.step, n_steps)
        self._require_lock()
        self.guard.check(self.step, results)
        self.step += n_steps
        self.log.add_steps(results, measured.seconds)

    def _is_due(self, period: int) -> bool:
        return self.step % period == 0 or self.step == self.run.train_config.total_steps

    def _log(self) -> None:
        learning_rate = float(self.train_step.optimizer.learning_rate)
        skipped_steps = self.train_step.skips.skipped_steps
        self.log.write_steps(self.step, learning_rate, self.checkpoints.new_metrics(), skipped_steps)

    def _validate(self) -> Losses:
        if self.sampler:
            samples = self.sampler()
            self._require_lock()
            self.log.write_samples(self.step, samples)
        validated = self._scores()
        self._require_lock()
        if validated:
            self.log.write_validation(self.step, validated)
        return validated

    def _scores(self) -> Losses:
        """Returns the losses over the validation records; none without any."""
        if not self.validator:
            return {}
        scores = {VALIDATION: self.validator()}
        if self.run.train_config.ema_decay:
            with averaged_weights(self.model, self.train_step.optimizer):
                scores[EMA_VALIDATION] = self.validator()
        return scores

    def _check_numerics(self) -> None:
        if self.numerics:
            gap = self.numerics.gap(self.run.cadence.numerics_batches)
            log_gap(self.step, gap, self.run.cadence.numerics_tolerance)

    def _result(self, validated: Losses) -> dict[str, Any]:
        return {
            "model_dir": self.run.model_dir,
            "parameters": self.run.model_config.parameter_count(),
            "step": self.step,
            "tokens": self.step * self.run.tokens_per_step,
            "tokens_per_second": self.log.meter.tokens_per_second,
            "step_fraction": self.log.meter.step_fraction,
            **self.checkpoints.times.totals(),
            "skipped_steps": self.train_step.skips.skipped_steps,
            **as_metrics(validated),
        }
