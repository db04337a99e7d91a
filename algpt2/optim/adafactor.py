"""Adafactor, whose second moment of a matrix is a row and a column of numbers."""

from typing import Any

import keras
from keras import ops

from algpt2.model.tensors import Tensor, TensorLike
from algpt2.optim.base import GlobalGradientOptimizer, LearningRate


@keras.saving.register_keras_serializable(package="algpt2")
class Adafactor(GlobalGradientOptimizer):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235), with the order of operations of `optax.adafactor`.

    The second moment of a matrix (..., R, C) is the outer product of its row means and column means, so the state is
    R + C numbers instead of R x C. At the update with 0-based number t both decay by 1 - (t + 1)^decay_exponent. The
    gradient over the root of the second moment is the update, which is divided by max(1, RMS(update) / clip_threshold)
    and multiplied by the learning rate.

    Example:

    >>> import algpt2
    >>> from algpt2.optim.adafactor import Adafactor
    >>> parameter = algpt2.GPT.from_preset("algpt2-tiny").wte
    >>> tuple(parameter.shape)
    (4096, 32)
    >>> optimizer = Adafactor(learning_rate=0.01, min_dim_size_to_factor=32)
    >>> optimizer.build([parameter])
    >>> optimizer.state_bytes()
    16512
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        beta_1: float | None = None,
        decay_exponent: float = -0.8,
        clip_threshold: float = 1.0,
        multiply_by_parameter_scale: bool = True,
        relative_step: bool = False,
        min_dim_size_to_factor: int = 128,
        epsilon_1: float = 1e-30,
        epsilon_2: float = 1e-3,
        weight_decay: float | None = None,
        name: str = "adafactor",
        **kwargs: Any,
    ):
        """Makes the optimizer, its state not yet created.

        Args:
          learning_rate: a number, or a schedule of it.
          beta_1: decay of a moving average of the updates, which is then what is applied; None for none.
          decay_exponent: of the second moment's decay; negative, or 0 for the second moment of each update alone.
          clip_threshold: the largest RMS of an update before the learning rate.
          multiply_by_parameter_scale: whether an update is multiplied by max(RMS(parameter), epsilon_2).
          relative_step: whether the learning rate is at most 1 / sqrt(t + 1), as in the paper.
          min_dim_size_to_factor: a matrix with a side shorter than this has a full second moment.
          epsilon_1: added to the squared gradient.
          epsilon_2: the least scale of a parameter.
          weight_decay: of the variables that `exclude_from_weight_decay` does not name, times the learning rate; None
            for none.
          name: name of the optimizer.
          kwargs: `ema_decay` and what else every Keras optimizer takes.
        """
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.decay_exponent = decay_exponent
        self.clip_threshold = clip_threshold
        self.multiply_by_parameter_scale = multiply_by_parameter_scale
        self.relative_step = relative_step
        self.min_dim_size_to_factor = min_dim_size_to_factor
        self.epsilon_1 = epsilon_1
        self.epsilon_2 = epsilon_2

    def is_factored(self, shape: tuple[int, ...]) -> bool:
        """Returns whether a variable of this shape gets row and column means instead of a full second moment."""
        return len(shape) >= 2 and min(shape[-2:]) >= self.min_dim_size_to_factor

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        self.slots = {"row_mean": [], "column_mean": [], "second_moment": []}
        if self.beta_1 is not None:
            self.slots["first_moment"] = self.add_optimizer_variables(var_list, "first_moment")
        for variable in var_list:
            shape = tuple(variable.shape)
            factored = self.is_factored(shape)
            self._add_slot("row_mean", variable, shape[:-1] if factored else None)
            self._add_slot("column_mean", variable, shape[:-2] + shape[-1:] if factored else None)
            self._add_slot("second_moment", variable, None if factored else shape)

    def _update(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        update = gradient * self._update_second_moment(ops.square(gradient) + self.epsilon_1, variable)
        update = update / ops.maximum(1.0, _rms(update) / self.clip_threshold)
        if self.relative_step:
            learning_rate = ops.minimum(learning_rate, ops.rsqrt(self._updates_done() + 1))
        update = learning_rate * update
        if self.multiply_by_parameter_scale:
            update = update * ops.maximum(_rms(variable), self.epsilon_2)
        if self.beta_1 is not None:
            first = self._slot("first_moment", variable)
            self.assign(first, self.beta_1 * first + (1 - self.beta_1) * update)
            update = first
        self.assign_sub(variable, update)

    def _update_second_moment(self, squares: Tensor, variable: keras.Variable) -> Tensor:
        """Takes this update's squared gradients into the state; returns 1 / sqrt(second moment) in their shape."""
        decay = 1 - ops.power(self._updates_done() + 1, self.decay_exponent)
        if not self.is_factored(tuple(variable.shape)):
            second = self._slot("second_moment", variable)
            self.assign(second, decay * second + (1 - decay) * squares)
            return ops.rsqrt(second)
        rows, columns = self._slot("row_mean", variable), self._slot("column_mean", variable)
        self.assign(rows, decay * rows + (1 - decay) * ops.mean(squares, axis=-1))
        self.assign(columns, decay * columns + (1 - decay) * ops.mean(squares, axis=-2))
        row_factor = ops.rsqrt(rows / ops.mean(rows, axis=-1, keepdims=True))
        # (..., R, 1) x (..., 1, C) -> (..., R, C)
        return row_factor[..., :, None] * ops.rsqrt(columns)[..., None, :]

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        own = {
            "beta_1": self.beta_1,
            "decay_exponent": self.decay_exponent,
            "clip_threshold": self.clip_threshold,
            "multiply_by_parameter_scale": self.multiply_by_parameter_scale,
            "relative_step": self.relative_step,
            "min_dim_size_to_factor": self.min_dim_size_to_factor,
            "epsilon_1": self.epsilon_1,
            "epsilon_2": self.epsilon_2,
        }
        return {**super().get_config(), **own}


def _rms(x: TensorLike) -> Tensor:
    """Returns the root of the mean square, float32 ()."""
    return ops.sqrt(ops.mean(ops.square(x)))
