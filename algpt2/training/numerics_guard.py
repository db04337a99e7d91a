"""A guard against a compute dtype that harms: the same weights and batches, scored in that dtype and in float32."""

from algpt2.evaluation.validation import Validator
from algpt2.model.gpt import GPT
from algpt2.tracking.metrics import EvaluationResult


class NumericsGuard:
    """Compares the loss of a few validation batches in the compute dtype with that in float32.

    It holds a second model, so a replica needs memory for float32 parameters once more.
    """

    def __init__(self, validator: Validator, jit_compile: bool = True):
        """Takes what scores the model in its compute dtype."""
        self._validator = validator
        with validator.strategy.scope():
            self._exact_model = GPT(validator.model.config, dtype="float32")
        self._exact_validator = Validator(
            validator.strategy, self._exact_model, validator.record_set, validator.batch_size, jit_compile
        )

    def gap(self, n_batches: int) -> float:
        """Returns the loss in the compute dtype minus that in float32, in nats per token, with the present weights."""
        self._exact_model.copy_parameters(self._validator.model)
        loss, exact = (one.loss_of_first_batches(n_batches) for one in (self._validator, self._exact_validator))
        return loss - exact


def gap_result(gap: float, tolerance: float) -> EvaluationResult:
    """Returns what is logged of a gap: a warning if it is above `tolerance` nats per token or not finite."""
    if abs(gap) <= tolerance:
        return EvaluationResult(lines=(f"changes the validation loss by {gap:.1e}",))
    warning = (
        f"changes the validation loss by {gap:.4f}, more than --numerics_tolerance {tolerance:g}: go on from "
        "a checkpoint before it in --compute_dtype float32, or with a lower --learning_rate"
    )
    return EvaluationResult(warnings=(warning,))
