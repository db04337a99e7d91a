"""A guard against a compute dtype that harms: the same weights, the same batches, that dtype and float32."""

import tensorflow as tf
from absl import logging

from algpt2.config.training import TrainConfig
from algpt2.evaluation.validation import Validator
from algpt2.model.gpt import GPT


class NumericsGuard:
    """Compares the loss of a few validation batches in the compute dtype with that in float32.

    It holds a second model, so a replica needs memory for float32 parameters once more.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: GPT, validator: Validator, config: TrainConfig):
        self._model = model
        self._validator = validator
        with strategy.scope():
            self._exact_model = GPT(model.config, dtype="float32")
        self._exact_validator = Validator(
            strategy, self._exact_model, validator.record_set, config.batch_size, config.jit_compile
        )

    def gap(self, n_batches: int) -> float:
        """Returns the loss in the compute dtype minus that in float32, in nats per token, with the present weights."""
        self._exact_model.copy_parameters(self._model)
        loss, exact = (one.loss_of_first_batches(n_batches) for one in (self._validator, self._exact_validator))
        return loss - exact


def log_gap(step: int, gap: float, tolerance: float) -> None:
    """Logs a gap, as a warning if it is above `tolerance` nats per token or no number."""
    if abs(gap) <= tolerance:
        logging.info("step %d  the compute dtype changes the validation loss by %.1e", step, gap)
        return
    logging.warning(
        "step %d  the compute dtype changes the validation loss by %.4f, more than --numerics_tolerance %g: go on from "
        "a checkpoint before it in --compute_dtype float32, or with a lower --learning_rate",
        step,
        gap,
        tolerance,
    )
