"""`TrainConfig`: everything beside model and data that determines the final weights; `Cadence`: what does not."""

import dataclasses
import math
from typing import Any

from algpt2.errors import UserError
from algpt2.options import option

DEFAULT_LEARNING_RATE = {"adamw": 6e-4, "adafactor": 1e-2}
OPTIMIZERS = tuple(DEFAULT_LEARNING_RATE)
DECAYS = ("cosine", "linear", "constant")
COMPUTE_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Two runs with equal model, data, TrainConfig and replica count end bit-identical.

    Each field says what it is in its option's help text.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    total_steps: int
    batch_size: int = option(32, "global batch, in sequences per optimizer step")
    accumulation_steps: int = option(1, "micro-batches that each replica works through per optimizer step")
    optimizer: str = option("adamw", "optimizer", OPTIMIZERS)
    learning_rate: float = option(DEFAULT_LEARNING_RATE["adamw"], "peak learning rate")
    warmup_steps: int = option(0, "steps of linear warm-up to the peak")
    decay: str = option("cosine", "how the learning rate falls after the warm-up", DECAYS)
    final_learning_rate_fraction: float = option(0.1, "learning rate of the last step, as a fraction of the peak")
    beta_1: float | None = option(None, "decay of the first moment (0.9 for adamw, no first moment for adafactor)")
    beta_2: float = option(0.95, "decay of adamw's second moment")
    epsilon: float = option(1e-8, "adamw's epsilon")
    weight_decay: float = option(0.1, "decoupled weight decay of matrices, times the learning rate")
    clip_norm: float = option(1.0, "bound of the global norm of the global gradient; 0 is off")
    multiply_by_parameter_scale: bool = option(True, "adafactor: scale updates by the parameter's RMS")
    relative_step: bool = option(False, "adafactor: learning rate at most 1/sqrt(step)")
    min_dim_size_to_factor: int = option(128, "adafactor: smallest matrix side that is factored")
    compute_dtype: str = option("float32", "dtype of the computation (bfloat16 on TPU)", COMPUTE_DTYPES)
    jit_compile: bool = option(True, "compile the step with XLA on CPU and GPU (on TPU it always is)")
    seed: int = option(0, "seed of the initial weights, the order of the records and the dropout masks")

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            _require(not isinstance(value, float) or math.isfinite(value), name, "a finite number", value)
        for name in ("total_steps", "batch_size", "accumulation_steps", "min_dim_size_to_factor"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("warmup_steps", "weight_decay", "clip_norm"):
            _require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name, choices in (("optimizer", OPTIMIZERS), ("decay", DECAYS), ("compute_dtype", COMPUTE_DTYPES)):
            _require(getattr(self, name) in choices, name, f"one of {', '.join(choices)}", getattr(self, name))
        for name in ("learning_rate", "epsilon"):
            _require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        _require(0 <= self.seed < 2**31, "seed", "in [0, 2^31)", self.seed)
        _require(0 <= self.beta_2 < 1, "beta_2", "in [0, 1)", self.beta_2)
        _require(self.beta_1 is None or 0 <= self.beta_1 < 1, "beta_1", "in [0, 1)", self.beta_1)
        fraction = self.final_learning_rate_fraction
        _require(0 <= fraction <= 1, "final_learning_rate_fraction", "in [0, 1]", fraction)
        _require(
            self.warmup_steps <= self.total_steps,
            "warmup_steps",
            f"at most {self.total_steps} steps",
            self.warmup_steps,
        )

    def micro_batch_size(self, n_replicas: int) -> int:
        """Returns the sequences of one micro-batch on one replica.

        Raises:
          UserError: the batch does not divide.
        """
        micro_batches = n_replicas * self.accumulation_steps
        if self.batch_size % micro_batches:
            nearest = micro_batches * -(-self.batch_size // micro_batches)
            raise UserError(
                f"batch_size must be a multiple of replicas x accumulation_steps = {n_replicas} x "
                f"{self.accumulation_steps}, received {self.batch_size}: {nearest} would do."
            )
        return self.batch_size // micro_batches

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain JSON values."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often a run logs, validates and saves, in steps. Changing it does not change the weights.

    Raises:
      UserError: a value below 1.
    """

    log_every_steps: int = option(50, "steps between log lines")
    eval_every_steps: int = option(1000, "steps between validations, each over the whole validation set")
    save_every_steps: int = option(1000, "steps between checkpoints")
    steps_per_loop: int = option(50, "most steps inside one graph call")
    keep_checkpoints: int = option(3, "newest checkpoints that stay in the run's folder")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _require(getattr(self, field.name) >= 1, field.name, "at least 1", getattr(self, field.name))

    def steps_until_next_stop(self, step: int, total_steps: int) -> int:
        """Returns how many steps the next graph call runs: up to the next log, validation, checkpoint or the end."""
        periods = (self.log_every_steps, self.eval_every_steps, self.save_every_steps)
        to_next = [period - step % period for period in periods]
        return min(*to_next, self.steps_per_loop, total_steps - step)


def _require(holds: bool, name: str, rule: str, received: Any) -> None:
    if not holds:
        raise UserError(f"{name} must be {rule}, received {received!r}.")
