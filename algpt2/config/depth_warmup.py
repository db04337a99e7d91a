"""Few layers first: the model begins with its first applications alone, and more join while it trains.

A shared block is then applied fewer times at first, which costs less arithmetic and changes no parameter. A model whose
layers are their own trains the later ones only from where they join; until then they keep their initial values, but for
weight decay. Stacking with copies is Gong et al. 2019 ("Efficient Training of BERT by Progressively Stacking").
"""

from algpt2.config.growth import Growth
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError


def depth_at(step: int, config: TrainConfig, n_layer: int) -> int:
    """Returns how many layer applications a step (0-based) makes.

    Args:
      step: optimizer updates done before it.
      config: of the training.
      n_layer: of the model.
    """
    initial = config.initial_n_layer
    return n_layer if initial is None else initial * (1 + _growth(config, n_layer).grown(step))


def steps_until_deeper(step: int, config: TrainConfig, n_layer: int) -> int | None:
    """Returns how many steps, from this one on, make as many applications; None if they never grow again."""
    return _growth(config, n_layer).steps_until_next(step)


def require_stages(config: TrainConfig, n_layer: int) -> None:
    """Raises `UserError` unless n_layer is `initial_n_layer` twice or more times."""
    initial = config.initial_n_layer
    if initial is None:
        return
    if n_layer % initial or n_layer == initial:
        raise UserError(
            f"initial_n_layer must be the model's n_layer {n_layer} divided by a whole number above 1, received "
            f"{initial}: 1 would do."
        )
    joins = _growth(config, n_layer).times
    if config.depth_warmup_steps < joins:
        raise UserError(
            f"depth_warmup_steps must be at least one for each of the {joins} times that layers join, received "
            f"{config.depth_warmup_steps}."
        )


def _growth(config: TrainConfig, n_layer: int) -> Growth:
    """Returns when layers join."""
    initial = config.initial_n_layer
    return Growth(n_layer // initial - 1 if initial else 0, config.depth_warmup_steps)
