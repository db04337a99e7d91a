"""Bugs of the original project of 2020 that an arm of a study can have, and that no flag of the trainer makes.

They are named as an arm's `bugs` name them. Two others need no code here: its weights did not decay, which is
`weight_decay = 0` in an arm's training, and its packing lost tokens, which is `make_tfrecords.py --packing legacy`. A
run with bugs must say so, and is then refused to go on without them:

    run = dataclasses.replace(run, optimizer_changes=bugs)
    train(run, strategy, create_optimizer=optimizer_factory(bugs))

What of the original is meant is in `optimizers_tf.py` of https://github.com/bilal2vec/lm-training-research-project at
commit 487f818.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from algpt2.config.training import TrainConfig
from algpt2.errors import UserError, shown

if TYPE_CHECKING:
    from algpt2.optim.adafactor import Adafactor
    from algpt2.optim.base import GlobalGradientOptimizer
    from algpt2.optim.create import OptimizerChange, OptimizerFactory


class Bug(NamedTuple):
    """A bug, and the setting of a run without which it cannot be made.

    field: of `TrainConfig`.
    value: that the field must have.
    change: makes the bug.
    """

    field: str
    value: str
    change: "OptimizerChange"


def optimizer_factory(bugs: Sequence[str]) -> "OptimizerFactory":
    """Returns what creates the optimizer of a run with these bugs; none of them makes it the trainer's own.

    The factory raises `UserError` for a run whose settings do not go with a bug; `require_bugs` says that before.

    Raises:
      UserError: there is no bug of that name, or one is named twice.
    """
    from algpt2.optim.create import OptimizerFactory  # It brings TensorFlow.

    _require_names(bugs)
    return OptimizerFactory({name: _checked(name) for name in bugs})


def require_bugs(bugs: Sequence[str], config: TrainConfig) -> None:
    """Raises `UserError` unless all bugs are known and named once, and a run of these settings can have them."""
    _require_names(bugs)
    for name in bugs:
        _require_setting(name, config)


def _require_names(bugs: Sequence[str]) -> None:
    for place, name in enumerate(bugs):
        if name not in ORIGINAL_BUGS:
            raise UserError(f"a bug must be one of {', '.join(ORIGINAL_BUGS)}, received {shown(name)}.")
        if name in bugs[:place]:
            raise UserError(f"each bug may be named once, and {name} is named more often: leave one out.")


def _require_setting(name: str, config: TrainConfig) -> None:
    bug = ORIGINAL_BUGS[name]
    if (value := getattr(config, bug.field)) != bug.value:
        raise UserError(
            f"the bug {name} needs {bug.field} {bug.value}, received {value}: set {bug.field} = "
            f'"{bug.value}", or leave the bug out.'
        )


def _checked(name: str) -> "OptimizerChange":
    """Returns the change that makes a bug, after a look whether the run can have it."""

    def change(optimizer: "GlobalGradientOptimizer", config: TrainConfig, tokens_per_step: int) -> None:
        _require_setting(name, config)
        ORIGINAL_BUGS[name].change(optimizer, config, tokens_per_step)

    return change


def _forget(optimizer: "Adafactor", config: TrainConfig, tokens_per_step: int) -> None:
    """Fixes the second moment's decay at 0, which was computed once, before the first step, where it is 0."""
    optimizer.decay_exponent = 0.0  # 1 - (t + 1)^0 = 0 at every update


def _count_decay_from_first_step(
    optimizer: "GlobalGradientOptimizer", config: TrainConfig, tokens_per_step: int
) -> None:
    """Sets the rate that jumps down at the end of the warm-up."""
    from algpt2.optim.legacy_rate import LegacyRate

    optimizer.learning_rate = LegacyRate(
        config.learning_rate,
        config.warmup_updates(tokens_per_step),
        config.total_steps,
        config.final_learning_rate_fraction,
    )


ORIGINAL_BUGS = {
    "adafactor_without_memory": Bug("optimizer", "adafactor", _forget),
    "rate_jump": Bug("decay", "linear", _count_decay_from_first_step),
}
