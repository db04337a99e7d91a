"""`AdamW`: Adam with decoupled weight decay."""

from typing import Any

import keras
from keras import ops

from algpt2.optim.base import GlobalGradientOptimizer


class AdamW(GlobalGradientOptimizer):
    """Adam with bias correction and decoupled weight decay (Loshchilov & Hutter, arXiv:1711.05101).

    With gradient g and 1-based update number t:
    m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g^2;
    p = p - lr (m / (1 - beta_1^t) / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay p).
    """

    def __init__(
        self,
        learning_rate: Any,
        beta_1: float = 0.9,
        beta_2: float = 0.95,
        epsilon: float = 1e-8,
        weight_decay: float | None = None,
        name: str = "adamw",
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, name=name, **kwargs)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        first, second = self.add_optimizer_variables(var_list, ["first_moment", "second_moment"])
        self.slots = {"first_moment": first, "second_moment": second}

    def _update(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        first, second = self._slot("first_moment", variable), self._slot("second_moment", variable)
        update_number = self._updates_done() + 1
        self.assign(first, self.beta_1 * first + (1 - self.beta_1) * gradient)
        self.assign(second, self.beta_2 * second + (1 - self.beta_2) * ops.square(gradient))
        mean = first / (1 - ops.power(self.beta_1, update_number))
        mean_square = second / (1 - ops.power(self.beta_2, update_number))
        self.assign_sub(variable, learning_rate * mean / (ops.sqrt(mean_square) + self.epsilon))

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
