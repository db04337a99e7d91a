"""Adafactor, whose second moment of a matrix is a row and a column of numbers."""

from typing import Any

import keras
from keras import ops

from algpt2.optim.base import GlobalGradientOptimizer


class Adafactor(GlobalGradientOptimizer):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235), the order of operations as in `optax.adafactor`.

    The second moment of a matrix (..., R, C), R and C at least `min_dim_size_to_factor`, is the outer product of its
    row means and column means, so the state is R + C numbers instead of R x C. With 0-based update number t the
    decay of both is 1 - (t + 1)^decay_exponent. The update is divided by max(1, RMS(update) / clip_threshold), times
    the learning rate, times max(RMS(parameter), epsilon_2) with `multiply_by_parameter_scale`, then averaged with
    `beta_1`. With `relative_step` the learning rate is at most 1 / sqrt(t + 1), as in the paper.
    """

    def __init__(
        self,
        learning_rate: Any,
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

    def _update(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
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

    def _update_second_moment(self, squares: Any, variable: Any) -> Any:
        """Takes in this update's squared gradients; returns 1 / sqrt(second moment), broadcastable to them."""
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


def _rms(x: Any) -> Any:
    return ops.sqrt(ops.mean(ops.square(x)))
