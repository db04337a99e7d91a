"""`TrainConfig`: everything beside model and data that determines the final weights."""

import dataclasses
from typing import Any

from algpt2.config.options import (
    ABOVE_0,
    COUNT,
    FRACTION,
    FRACTION_ABOVE_0,
    FRACTION_BELOW_1,
    Rule,
    at_least,
    count,
    option,
    require,
    require_rules,
)
from algpt2.errors import UserError

DEFAULT_LEARNING_RATE = {"adamw": 6e-4, "adafactor": 1e-2, "muon": 6e-4}
OPTIMIZERS = tuple(DEFAULT_LEARNING_RATE)
SHARDED_OPTIMIZERS = ("adamw", "muon")
DECAYS = ("cosine", "linear", "constant", "wsd", "tokens_cosine")
COOLDOWN_SHAPES = ("linear", "1-sqrt")
DECAY_HELP = (
    "cosine and linear fall until the last step, constant does not fall, wsd stays at the peak and falls over the last "
    "--cooldown_fraction of the steps, tokens_cosine falls until --decay_tokens tokens, however long the run is"
)
COMPUTE_DTYPES = ("float32", "bfloat16")
REMATS = ("none", "block")
SEED = Rule("in [0, 2^31)", lambda value: 0 <= value < 2**31)
# Two numbers for each step of it go through every step of the run, and into the `state.json` of every checkpoint.
WINDOW = count(2, below=1_000_001)
# A run keeps these for good: where it stands in the data, or what the optimizer's state holds, depends on them.
FIXED_FIELDS = ("batch_size", "seed", "optimizer", "min_dim_size_to_factor", "ema_decay")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. Two runs with equal model, data, TrainConfig and replica count end bit-identical.

    `total_steps` is the number of optimizer updates; each other field says what it is in its option's help text.

    Example:

    >>> from algpt2.config.training import TrainConfig
    >>> config = TrainConfig(total_steps=1000, batch_size=64, warmup_tokens=2e6)
    >>> config.micro_batch_size(n_replicas=8)
    8
    >>> config.warmup_updates(tokens_per_step=64 * 1024)
    30.517578125

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    total_steps: int
    batch_size: int = option(32, "global batch, in sequences per optimizer step", rule=COUNT)
    accumulation_steps: int = option(1, "micro-batches that each replica works through per optimizer step", rule=COUNT)
    optimizer: str = option("adamw", "optimizer; muon updates the kernels inside blocks, adamw the rest", OPTIMIZERS)
    learning_rate: float = option(DEFAULT_LEARNING_RATE["adamw"], "peak learning rate", rule=ABOVE_0)
    warmup_steps: int = option(0, "steps of linear warm-up to the peak", rule=at_least(0))
    warmup_tokens: float | None = option(
        None, "tokens of linear warm-up to the peak, instead of --warmup_steps", rule=ABOVE_0
    )
    decay: str = option("cosine", f"how the learning rate falls after the warm-up. {DECAY_HELP}", DECAYS)
    cooldown_fraction: float = option(
        0.2, "wsd: length of the fall at the end, as a fraction of all steps", rule=FRACTION_ABOVE_0
    )
    cooldown_shape: str = option("linear", "wsd: the fall's shape, 1 - x or 1 - sqrt(x)", COOLDOWN_SHAPES)
    decay_tokens: float | None = option(
        None, "tokens_cosine: tokens from the run's start to the end of the fall", rule=ABOVE_0
    )
    final_learning_rate_fraction: float = option(
        0.1, "learning rate of the last step, and of tokens_cosine's first, as a fraction of the peak", rule=FRACTION
    )
    beta_1: float | None = option(
        None, "decay of the first moment (adamw and muon's adamw: 0.9; adafactor: none)", rule=FRACTION_BELOW_1
    )
    beta_2: float = option(0.95, "decay of adamw's second moment", rule=FRACTION_BELOW_1)
    muon_momentum: float = option(0.95, "decay of muon's momentum", rule=FRACTION_BELOW_1)
    epsilon: float = option(1e-8, "adamw's epsilon", rule=ABOVE_0)
    weight_decay: float = option(0.1, "decoupled weight decay of matrices, times the learning rate", rule=at_least(0))
    clip_norm: float = option(1.0, "bound of the global norm of the global gradient; 0 is off", rule=at_least(0))
    ema_decay: float = option(
        0.0, "decay of a moving average of the weights, kept beside them; 0 keeps none", rule=FRACTION_BELOW_1
    )
    skip_spikes: float = option(
        0.0,
        "skip updates whose loss or gradient norm is not finite, or so many standard deviations above the mean of the "
        "last --spike_window_steps; 0 is off: what is not finite stops the run",
        rule=at_least(0),
    )
    spike_window_steps: int = option(
        100, "skip_spikes: steps whose losses and gradient norms are the measure", rule=WINDOW
    )
    max_skips: int = option(10, "skip_spikes: most updates skipped in a row; one more stops the run", rule=at_least(1))
    initial_seq_len: int | None = option(None, "begin with records cut into pieces of so many positions", rule=COUNT)
    seq_len_warmup_steps: int = option(
        0, "steps over which --initial_seq_len doubles up to the model's seq_len", rule=count(0)
    )
    initial_n_layer: int | None = option(
        None, "begin with so many layer applications, the model's first ones", rule=COUNT
    )
    depth_warmup_steps: int = option(
        0,
        "steps over which --initial_n_layer grows by as many layers at a time up to the model's n_layer",
        rule=count(0),
    )
    shard_optimizer_state: bool = option(
        False,
        "adamw, muon: each replica keeps and updates a part of the optimizer's state, and orthogonalises a part of "
        "muon's matrices, instead of all of them",
    )
    multiply_by_parameter_scale: bool = option(True, "adafactor: scale updates by the parameter's RMS")
    relative_step: bool = option(False, "adafactor: learning rate at most 1/sqrt(step)")
    min_dim_size_to_factor: int = option(128, "adafactor: smallest matrix side that is factored", rule=COUNT)
    compute_dtype: str = option("float32", "dtype of the computation (bfloat16 on TPU)", COMPUTE_DTYPES)
    remat: str = option(
        "none", "what the backward pass computes anew, for less memory; attention weights always", REMATS
    )
    jit_compile: bool = option(True, "compile the step with XLA on CPU and GPU (on TPU it always is)")
    seed: int = option(0, "seed of the initial weights, the order of the records and the dropout masks", rule=SEED)

    def __post_init__(self) -> None:
        require(COUNT.holds(self.total_steps), "total_steps", COUNT.text, self.total_steps)
        require_rules(self)
        self._require_one_warmup()
        self._require_decay_tokens_with_their_decay()
        self._require_state_that_can_be_shared_out()
        self._require_pair("initial_seq_len", "seq_len_warmup_steps")
        self._require_pair("initial_n_layer", "depth_warmup_steps")
        if self.warmup_tokens is None:
            self._require_warmup_within_run("warmup_steps", self.warmup_steps, "steps", 1)

    def _require_one_warmup(self) -> None:
        if self.warmup_steps and self.warmup_tokens is not None:
            raise UserError(
                "the warm-up must be given in steps or in tokens, not both, received "
                f"warmup_steps={self.warmup_steps} and warmup_tokens={self.warmup_tokens:.15g}: leave one out."
            )

    def _require_decay_tokens_with_their_decay(self) -> None:
        if (self.decay == "tokens_cosine") != (self.decay_tokens is not None):
            raise UserError(
                "decay_tokens must be given with decay=tokens_cosine and with no other decay, received "
                f"decay={self.decay} and decay_tokens={self.decay_tokens}: give both or neither."
            )

    def _require_state_that_can_be_shared_out(self) -> None:
        if self.shard_optimizer_state and self.optimizer not in SHARDED_OPTIMIZERS:
            raise UserError(
                f"shard_optimizer_state must be given with optimizer={' or '.join(SHARDED_OPTIMIZERS)}, received "
                f"optimizer={self.optimizer}, whose state is small: leave it out."
            )

    def _require_pair(self, name_of_initial: str, name_of_steps: str) -> None:
        initial, steps = getattr(self, name_of_initial), getattr(self, name_of_steps)
        if (initial is None) != (steps == 0):
            raise UserError(
                f"{name_of_initial} and {name_of_steps} must be given together, received "
                f"{name_of_initial}={initial} and {name_of_steps}={steps}: give both or neither."
            )

    def _require_warmup_within_run(self, name: str, warmup: float, unit: str, units_per_step: int) -> None:
        """Checks that the peak is reached before the run ends, or before wsd's cooldown begins.

        Args:
          name: of the field, for the error.
          warmup: its value.
          unit: what it counts, "steps" or "tokens".
          units_per_step: how many of these a step has.
        """
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
            self._require_warmup_within_run("warmup_tokens", self.warmup_tokens, "tokens", tokens_per_step)
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
