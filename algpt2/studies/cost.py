"""What a cell's training costs in arithmetic, which is less where layers or positions are few at first."""

import dataclasses
from collections import Counter

from algpt2.config.model import GPTConfig
from algpt2.config.step_shape import StepShape, shape_at
from algpt2.config.training import TrainConfig
from algpt2.model.sizes import training_flops_per_token
from algpt2.studies.cells import Cell
from algpt2.studies.spec import Spec


def cell_flops(spec: Spec, cell: Cell) -> float:
    """Returns the FLOPs of a cell's whole training, by `training_flops_per_token` at the shape of each step."""
    arm = spec.arm(cell.arm)
    return training_flops(spec.tokens, spec.model_config(arm), spec.train_config(arm, cell.learning_rate, cell.seed))


def training_flops(tokens: int, model: GPTConfig, training: TrainConfig) -> float:
    """Returns the FLOPs of a training.

    Args:
      tokens: of all steps, each of which has as many.
      model: at its full depth and length.
      training: says how many steps there are, and which of them have fewer layers or positions.
    """
    shapes = Counter(shape_at(step, training, model) for step in range(training.total_steps))
    whole = sum(steps * training_flops_per_token(_of_shape(model, shape)) for shape, steps in shapes.items())
    return float(tokens * whole / training.total_steps)


def _of_shape(model: GPTConfig, shape: StepShape) -> GPTConfig:
    """Returns a model that costs as much; which layers share parameters costs nothing."""
    unshared = {"share_layers": False, "attention_sharing": None, "feed_forward_sharing": None}
    return dataclasses.replace(model, **shape._asdict(), **unshared)
