"""The training loop: steps, log lines, validation, checkpoints, exact resume."""

from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from algpt2 import checkpoints, run_folder, storage, strict_json
from algpt2.errors import TrainingStopped
from algpt2.input_pipeline import train_batches
from algpt2.metrics import MetricsLog
from algpt2.record_set import load_tokenizer
from algpt2.run_plan import Run
from algpt2.tfrecords import record_errors
from algpt2.throughput import ThroughputMeter, format_seconds
from algpt2.train_step import TrainStep, create_model
from algpt2.validation import Loss, Validator


class Trainer:
    """Runs, or resumes, a training run."""

    def __init__(self, run: Run, strategy: tf.distribute.Strategy):
        self.run = run
        self.strategy = strategy
        config = run.train_config
        # What is wrong is refused before anything is written.
        config.micro_batch_size(strategy.num_replicas_in_sync)
        load_tokenizer(run.train_records.folder, run.train_records.tokenizer_sha256)
        self.tokenizer_json = storage.read_bytes(storage.join(run.train_records.folder, checkpoints.TOKENIZER_NAME))
        identity = run_folder.identity_of(run.model_config, config, run.train_records)
        run_folder.claim_run_folder(run.model_dir, identity)
        with strategy.scope():
            self.model = create_model(run.model_config, config)
        self.train_step = TrainStep(strategy, self.model, config)
        self.validator = None
        if run.val_records:
            self.validator = Validator(strategy, self.model, run.val_records, config.batch_size, config.jit_compile)
        self.step = self._restore()
        self.metrics = MetricsLog(run.model_dir, self.step)
        self.meter = ThroughputMeter(run.tokens_per_step)

    def train(self) -> dict[str, Any]:
        """Runs to the last step; returns the final figures, which `result.json` keeps.

        Raises:
          UserError: a record is damaged or does not fit the model.
          TrainingStopped: the loss or the gradient is no longer finite.
        """
        logging.info(
            "%d parameters, %d bytes of optimizer state, %d replicas, step %d of %d",
            self.run.model_config.parameter_count(),
            self.train_step.optimizer.state_bytes(),
            self.strategy.num_replicas_in_sync,
            self.step,
            self.run.train_config.total_steps,
        )
        result_path = storage.join(self.run.model_dir, run_folder.RESULT_NAME)
        if self.step == self.run.train_config.total_steps and storage.exists(result_path):
            return strict_json.read_object(result_path, run_folder.MADE_BY)
        with record_errors():
            validated = self._train()
        result = {
            "model_dir": self.run.model_dir,
            "parameters": self.run.model_config.parameter_count(),
            "step": self.step,
            "tokens": self.step * self.run.tokens_per_step,
            "tokens_per_second": self.meter.tokens_per_second,
            **(validated.as_metrics() if validated else {}),
        }
        storage.write_text(result_path, strict_json.dumps(result, indent=2) + "\n")
        return result

    def _train(self) -> Loss | None:
        """Returns the last validation's loss."""
        total_steps = self.run.train_config.total_steps
        if self.step == total_steps:
            return self._validate()
        iterator = iter(self._batches())
        validated = None
        while self.step < total_steps:
            losses = self._advance(iterator, self.run.cadence.steps_until_next_stop(self.step, total_steps))
            if self._is_due(self.run.cadence.log_every_steps):
                self._log(losses)
            if self._is_due(self.run.cadence.eval_every_steps):
                validated = self._validate()
            if self._is_due(self.run.cadence.save_every_steps):
                self._save()
        return validated

    def _batches(self) -> Any:
        run = self.run
        return self.strategy.distribute_datasets_from_function(
            lambda context: train_batches(
                run.train_records, run.train_config.batch_size, run.train_config.seed, self.step, context
            )
        )

    def _advance(self, iterator: Any, n_steps: int) -> np.ndarray:
        """Runs steps and returns their losses."""
        with self.meter.measuring(n_steps):
            losses, norms = self.train_step(iterator, self.step, n_steps)
        finite = np.isfinite(losses) & np.isfinite(norms)
        if not finite.all():
            bad = int(np.argmin(finite))
            raise TrainingStopped(
                f"the loss or the gradient is not finite at step {self.step + bad} (loss {losses[bad]}, gradient norm "
                f"{norms[bad]}): nothing was saved after it; lower --learning_rate or raise --warmup_steps."
            )
        self.step += n_steps
        self.last_norm = float(norms[-1])
        return losses

    def _is_due(self, period: int) -> bool:
        return self.step % period == 0 or self.step == self.run.train_config.total_steps

    def _log(self, losses: np.ndarray) -> None:
        learning_rate = float(self.train_step.optimizer.learning_rate)
        loss, speed = float(losses.mean()), self.meter.tokens_per_second
        remaining_steps = self.run.train_config.total_steps - self.step
        logging.info(
            "step %d/%d  loss %.4f  gradient norm %.3f  learning rate %.3g  %s tokens/s  %s left",
            self.step,
            self.run.train_config.total_steps,
            loss,
            self.last_norm,
            learning_rate,
            f"{speed:,.0f}" if speed else "-",
            format_seconds(remaining_steps * self.run.tokens_per_step / speed) if speed else "-",
        )
        self.metrics.write(
            step=self.step,
            tokens=self.step * self.run.tokens_per_step,
            loss=loss,
            gradient_norm=self.last_norm,
            learning_rate=learning_rate,
            tokens_per_second=speed,
        )

    def _validate(self) -> Loss | None:
        if not self.validator:
            return None
        validated = self.validator()
        metrics = validated.as_metrics()
        logging.info(
            "step %d  validation loss %.4f  perplexity %.2f  bits per byte %.4f",
            self.step,
            *metrics.values(),
        )
        self.metrics.write(step=self.step, **metrics)
        return validated

    def _save(self) -> None:
        state = checkpoints.CheckpointState(
            step=self.step,
            tokens=self.step * self.run.tokens_per_step,
            train_config=self.run.train_config.to_dict(),
            train_fingerprint=self.run.train_records.fingerprint,
            n_replicas=self.strategy.num_replicas_in_sync,
        )
        folder = checkpoints.checkpoint_folder(self.run.model_dir, self.step)
        checkpoints.save_checkpoint(folder, self.model, self.train_step.optimizer, state, self.tokenizer_json)
        checkpoints.delete_old_checkpoints(self.run.model_dir, self.run.cadence.keep_checkpoints)
        logging.info("step %d  saved %s", self.step, folder)

    def _restore(self) -> int:
        """Returns the step to go on from."""
        checkpoints.delete_unfinished_checkpoints(self.run.model_dir)
        folder = checkpoints.newest_intact_checkpoint(self.run.model_dir)
        if folder is None:
            return 0
        state = checkpoints.restore_checkpoint(folder, self.model, self.train_step.optimizer)
        logging.info("resuming from %s", folder)
        if state.n_replicas != self.strategy.num_replicas_in_sync:
            logging.warning(
                "%s was written with %d replicas and this is %d: same batches, other dropout masks",
                folder,
                state.n_replicas,
                self.strategy.num_replicas_in_sync,
            )
        return state.step
