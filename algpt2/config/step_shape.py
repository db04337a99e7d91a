"""The shape of a step: how long its rows are, and how many layer applications it makes. Each shape is a graph."""

from typing import NamedTuple

from algpt2.config.depth_warmup import depth_at, require_stages, steps_until_deeper
from algpt2.config.model import GPTConfig
from algpt2.config.seq_len_warmup import require_doublings, seq_len_at, steps_until_longer
from algpt2.config.training import TrainConfig


class StepShape(NamedTuple):
    """What a step's graph is made for.

    Attributes:
      seq_len: positions of a row of the batch.
      n_layer: layer applications.
    """

    seq_len: int
    n_layer: int


def shape_at(step: int, config: TrainConfig, model_config: GPTConfig) -> StepShape:
    """Returns the shape of a step (0-based)."""
    return StepShape(seq_len_at(step, config, model_config.seq_len), depth_at(step, config, model_config.n_layer))


def steps_until_next_shape(step: int, config: TrainConfig, model_config: GPTConfig) -> int | None:
    """Returns how many steps, from this one on, have the same shape; None if it never changes again."""
    changes = [
        steps_until_longer(step, config, model_config.seq_len),
        steps_until_deeper(step, config, model_config.n_layer),
    ]
    return min((steps for steps in changes if steps is not None), default=None)


def require_shapes(config: TrainConfig, model_config: GPTConfig) -> None:
    """Raises `UserError` unless the warm-ups of length and depth end at the model's."""
    require_doublings(config, model_config.seq_len)
    require_stages(config, model_config.n_layer)
