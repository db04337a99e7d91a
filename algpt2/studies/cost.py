"""What a cell's training costs in arithmetic."""

from algpt2.model.sizes import training_flops
from algpt2.studies.cells import Cell
from algpt2.studies.spec import Spec


def cell_flops(spec: Spec, cell: Cell) -> float:
    """Returns the FLOPs of a cell's whole training, as `training_flops` counts them."""
    arm = spec.arm(cell.arm)
    return training_flops(spec.tokens, spec.model_config(arm), spec.train_config(arm, cell.learning_rate, cell.seed))
