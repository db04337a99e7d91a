"""`AdamW`: Adam with decoupled weight decay."""

from typing import Any

import keras
from keras import ops

from algpt2.model.tensors import Tensor
from algpt2.optim.base import GlobalGradientOptimizer, LearningRate


@keras.saving.register_keras_serializable(package="algpt2")
class AdamW(GlobalGradientOptimizer):
    """Adam with bias correction and decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101).

    With gradient g and 1-based update number t:
    m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g^2;
    p = p - lr (m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay p).

    Example:

    >>> import numpy as np
    >>> import algpt2
    >>> from algpt2.optim.adamw import AdamW
    >>> parameter = algpt2.GPT.from_preset("algpt2-tiny").wpe
    >>> before = parameter.numpy()
    >>> optimizer = AdamW(learning_rate=0.01)
    >>> optimizer.build([parameter])
    >>> optimizer.apply([np.ones(parameter.shape, "float32")], [parameter])
    >>> float(np.abs(parameter.numpy() - before + 0.01).max()) < 1e-6
    True
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        beta_1: float = 0.9,
        beta_2: float = 0.95,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        name: str = "adamw",
        **kwargs: Any,
    ):
        """Makes the optimizer, its state not yet created.

        Args:
          learning_rate: a number, or a schedule of it.
          beta_1: decay of the first moment, in [0, 1).
          beta_2: decay of the second moment, in [0, 1).
          epsilon: added to the root of the second moment.
          weight_decay: of the variables that `exclude_from_weight_decay` does not name, times the learning rate; None
            for none.
          name: name of the optimizer.
          kwargs: `ema_decay` and what else every Keras optimizer takes.
        """
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        first, second = self.add_optimizer_variables(var_list, ["first_moment", "second_moment"])
        self.slots = {"first_moment": first, "second_moment": second}

    def _update(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        first, second = self._slot("first_moment", variable), self._slot("second_moment", variable)
        self._take_in(first, second, gradient)
        self.assign_sub(variable, learning_rate * self._direction(first, second))

    def _take_in(self, first: keras.Variable, second: keras.Variable, gradient: Tensor) -> None:
        """Takes a gradient into both moments."""
        self.assign(first, self.beta_1 * first + (1 - self.beta_1) * gradient)
        self.assign(second, self.beta_2 * second + (1 - self.beta_2) * ops.square(gradient))

    def _direction(self, first: keras.Variable, second: keras.Variable) -> Tensor:
        """Returns by what, times the learning rate, a parameter falls."""
        update_number = self._updates_done() + 1
        mean = first / (1 - ops.power(self.beta_1, update_number))
        mean_square = second / (1 - ops.power(self.beta_2, update_number))
        return mean / (ops.sqrt(mean_square) + self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
