"""`TrainConfig`: everything beside model and data that determines the final weights."""

import dataclasses
import math
from typing import Any

from algpt2.config.options import option, require
from algpt2.errors import UserError

DEFAULT_LEARNING_RATE = {"adamw": 6e-4, "adafactor": 1e-2, "muon": 6e-4}
OPTIMIZERS = tuple(DEFAULT_LEARNING_RATE)
DECAYS = ("cosine", "linear", "constant", "wsd", "tokens_cosine")
COOLDOWN_SHAPES = ("linear", "1-sqrt")
DECAY_HELP = (
    "cosine and linear fall until the last step, constant does not fall, wsd stays at the peak and falls over the last "
    "--cooldown_fraction of the steps, tokens_cosine falls until --decay_tokens tokens, however long the run is"
)
COMPUTE_DTYPES = ("float32", "bfloat16")
REMATS = ("none", "block")
# On these the place in the data or the optimizer's state depends; a run keeps them for good.
FIXED_FIELDS = ("batch_size", "seed", "optimizer", "min_dim_size_to_factor", "ema_decay")


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
    optimizer: str = option("adamw", "optimizer; muon updates the kernels inside blocks, adamw the rest", OPTIMIZERS)
    learning_rate: float = option(DEFAULT_LEARNING_RATE["adamw"], "peak learning rate")
    warmup_steps: int = option(0, "steps of linear warm-up to the peak")
    warmup_tokens: float | None = option(None, "tokens of linear warm-up to the peak, instead of --warmup_steps")
    decay: str = option("cosine", f"how the learning rate falls after the warm-up. {DECAY_HELP}", DECAYS)
    cooldown_fraction: float = option(0.2, "wsd: length of the fall at the end, as a fraction of all steps")
    cooldown_shape: str = option("linear", "wsd: the fall's shape, 1 - x or 1 - sqrt(x)", COOLDOWN_SHAPES)
    decay_tokens: float | None = option(None, "tokens_cosine: tokens from the run's start to the end of the fall")
    final_learning_rate_fraction: float = option(
        0.1, "learning rate of the last step, and of tokens_cosine's first, as a fraction of the peak"
    )
    beta_1: float | None = option(None, "decay of the first moment (adamw and muon's adamw: 0.9; adafactor: none)")
    beta_2: float = option(0.95, "decay of adamw's second moment")
    muon_momentum: float = option(0.95, "decay of muon's momentum")
    epsilon: float = option(1e-8, "adamw's epsilon")
    weight_decay: float = option(0.1, "decoupled weight decay of matrices, times the learning rate")
    clip_norm: float = option(1.0, "bound of the global norm of the global gradient; 0 is off")
    ema_decay: float = option(0.0, "decay of a moving average of the weights, kept beside them; 0 keeps none")
    skip_spikes: float = option(
        0.0,
        "skip updates whose loss or gradient norm is not finite, or so many standard deviations above the mean of the "
        "last --spike_window_steps; 0 is off: what is not finite stops the run",
    )
    spike_window_steps: int = option(100, "skip_spikes: steps whose losses and gradient norms are the measure")
    max_skips: int = option(10, "skip_spikes: most updates skipped in a row; one more stops the run")
    initial_seq_len: int | None = option(None, "begin with records cut into pieces of so many positions")
    seq_len_warmup_steps: int = option(0, "steps over which --initial_seq_len doubles up to the model's seq_len")
    multiply_by_parameter_scale: bool = option(True, "adafactor: scale updates by the parameter's RMS")
    relative_step: bool = option(False, "adafactor: learning rate at most 1/sqrt(step)")
    min_dim_size_to_factor: int = option(128, "adafactor: smallest matrix side that is factored")
    compute_dtype: str = option("float32", "dtype of the computation (bfloat16 on TPU)", COMPUTE_DTYPES)
    remat: str = option(
        "none", "what the backward pass computes anew, for less memory; attention weights always", REMATS
    )
    jit_compile: bool = option(True, "compile the step with XLA on CPU and GPU (on TPU it always is)")
    seed: int = option(0, "seed of the initial weights, the order of the records and the dropout masks")

    def __post_init__(self) -> None:
        for name, value in self.to_dict().items():
            require(not isinstance(value, float) or math.isfinite(value), name, "a finite number", value)
        for name in ("total_steps", "batch_size", "accumulation_steps", "min_dim_size_to_factor", "max_skips"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("warmup_steps", "weight_decay", "clip_norm", "skip_spikes"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))
        for name, choices in (("optimizer", OPTIMIZERS), ("compute_dtype", COMPUTE_DTYPES), ("remat", REMATS)):
            require(getattr(self, name) in choices, name, f"one of {', '.join(choices)}", getattr(self, name))
        for name in ("learning_rate", "epsilon"):
            require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        require(0 <= self.seed < 2**31, "seed", "in [0, 2^31)", self.seed)
        for name in ("beta_2", "muon_momentum", "ema_decay"):
            require(0 <= getattr(self, name) < 1, name, "in [0, 1)", getattr(self, name))
        require(self.beta_1 is None or 0 <= self.beta_1 < 1, "beta_1", "in [0, 1)", self.beta_1)
        require(self.spike_window_steps >= 2, "spike_window_steps", "at least 2", self.spike_window_steps)
        self._check_schedule()
        self._check_seq_len_warmup()

    def _check_seq_len_warmup(self) -> None:
        initial, steps = self.initial_seq_len, self.seq_len_warmup_steps
        if (initial is None) != (steps == 0):
            raise UserError(
                "initial_seq_len and seq_len_warmup_steps must be given together, received "
                f"initial_seq_len={initial} and seq_len_warmup_steps={steps}: give both or neither."
            )
        require(initial is None or initial >= 1, "initial_seq_len", "at least 1", initial)
        require(steps >= 0, "seq_len_warmup_steps", "at least 0", steps)

    def _check_schedule(self) -> None:
        for name, choices in (("decay", DECAYS), ("cooldown_shape", COOLDOWN_SHAPES)):
            require(getattr(self, name) in choices, name, f"one of {', '.join(choices)}", getattr(self, name))
        fraction = self.final_learning_rate_fraction
        require(0 <= fraction <= 1, "final_learning_rate_fraction", "in [0, 1]", fraction)
        require(0 < self.cooldown_fraction <= 1, "cooldown_fraction", "in (0, 1]", self.cooldown_fraction)
        for name in ("warmup_tokens", "decay_tokens"):
            tokens = getattr(self, name)
            require(tokens is None or tokens > 0, name, "above 0", tokens)
        if self.warmup_steps and self.warmup_tokens is not None:
            raise UserError(
                "the warm-up must be given in steps or in tokens, not both, received "
                f"warmup_steps={self.warmup_steps} and warmup_tokens={self.warmup_tokens:.15g}: leave one out."
            )
        if (self.decay == "tokens_cosine") != (self.decay_tokens is not None):
            raise UserError(
                "decay_tokens must be given with decay=tokens_cosine and with no other decay, received "
                f"decay={self.decay} and decay_tokens={self.decay_tokens}: give both or neither."
            )
        if self.warmup_tokens is None:
            self._require_warmup("warmup_steps", self.warmup_steps, "steps", 1)

    def _require_warmup(self, name: str, warmup: float, unit: str, units_per_step: int) -> None:
        steps, until = self.total_steps, ""
        if self.decay == "wsd":
            steps, until = steps - self.cooldown_steps, " (the cooldown begins there)"
        most = steps * units_per_step
        require(warmup <= most, name, f"at most {most} {unit}{until}", warmup)

    @property
    def cooldown_steps(self) -> int:
        """Whole steps of wsd's cooldown, at least one."""
        return max(1, round(self.cooldown_fraction * self.total_steps))

    def warmup_updates(self, tokens_per_step: int) -> float:
        """Returns the warm-up's length in optimizer steps, a fraction where it is given in tokens.

        Args:
          tokens_per_step: target tokens of one global batch.

        Raises:
          UserError: a length in tokens breaks the rule that the sentence names.
        """
        warmup = float(self.warmup_steps)
        if self.warmup_tokens is not None:
            self._require_warmup("warmup_tokens", self.warmup_tokens, "tokens", tokens_per_step)
            warmup = self.warmup_tokens / tokens_per_step
        if self.decay_tokens is not None:
            rule = f"above the warm-up's {warmup * tokens_per_step:.15g} tokens"
            require(self.decay_tokens > warmup * tokens_per_step, "decay_tokens", rule, self.decay_tokens)
        return warmup

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
