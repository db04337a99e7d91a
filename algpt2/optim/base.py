"""What our optimizers share: they take gradients that are already global, summed over replicas and then clipped.

Keras' own optimizers all-reduce every gradient inside `apply` and clip before it (`docs/design.md`, reduce once).
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

EMA_SLOT = "ema"
Slots = dict[str, list[keras.Variable | None]]


class GlobalGradientOptimizer(keras.optimizers.Optimizer):
    """Base: applies global gradients as they are, and names its state so that a checkpoint can hold it.

    It decays a variable, then updates it, then takes it into the moving average of the weights, if there is one:
    a = ema_decay a + (1 - ema_decay) p, from a = 0. After t updates `a / (1 - ema_decay^t)` is the mean of the p so
    far with weights that fall by ema_decay an update.
    """

    slots: Slots

    def __init__(self, ema_decay: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.ema_decay = ema_decay
        self._skip: Any = None

    def build(self, var_list: list[keras.Variable]) -> None:
        """Creates the state, zero, for every variable."""
        if self.built:
            return
        super().build(var_list)
        self._create_slots(var_list)
        if self.ema_decay:
            self.slots[EMA_SLOT] = self.add_optimizer_variables(var_list, EMA_SLOT)

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        """Sets `slots`."""
        raise NotImplementedError

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars

    @contextlib.contextmanager
    def skipping(self, skip: Any) -> Iterator[None]:
        """While entered, `apply` changes nothing but the moving average and the update count where `skip` holds.

        Args:
          skip: bool (), the same on every replica; None never skips, and costs nothing.
        """
        self._skip = skip
        try:
            yield
        finally:
            self._skip = None

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decays and updates one variable and its state."""
        if self.weight_decay is not None and self._use_weight_decay(variable):
            self.assign_sub(variable, variable * self.weight_decay * learning_rate)
        self._update(gradient, variable, learning_rate)
        if self.ema_decay:
            average = self._slot(EMA_SLOT, variable)
            super().assign(average, self.ema_decay * average + (1 - self.ema_decay) * variable)

    def _update(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable, which is decayed already, and its state."""
        raise NotImplementedError

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing: `update_step` decays, because Keras' own way cannot skip."""

    def assign(self, variable: Any, value: Any) -> None:
        """Sets a variable, unless the update is skipped."""
        super().assign(variable, value if self._skip is None else ops.where(self._skip, variable, value))

    def assign_sub(self, variable: Any, value: Any) -> None:
        """Lowers a variable, unless the update is skipped."""
        super().assign_sub(variable, value if self._skip is None else ops.where(self._skip, 0.0, value))

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "ema_decay": self.ema_decay}

    def named_state(self, parameters: dict[str, keras.Variable]) -> dict[str, keras.Variable]:
        """Returns every state variable as `slot/parameter name`, and the update count as `iterations`.

        Args:
          parameters: the variables the optimizer was built with, in that order, under their names.
        """
        state = {"iterations": self.iterations}
        for slot, variables in self.slots.items():
            for name, variable in zip(parameters, variables, strict=True):
                if variable is not None:
                    state[f"{slot}/{name}"] = variable
        return state

    def state_bytes(self) -> int:
        """Returns the size of all slots."""
        variables = [variable for slot in self.slots.values() for variable in slot if variable is not None]
        return sum(math.prod(variable.shape) * 4 for variable in variables)

    def _slot(self, name: str, variable: Any) -> Any:
        return self.slots[name][self._get_variable_index(variable)]

    def _add_slot(self, name: str, variable: keras.Variable, shape: tuple[int, ...] | None) -> None:
        slot = None if shape is None else self.add_variable(shape, name=f"{name}_{variable.name}")
        self.slots[name].append(slot)

    def _updates_done(self) -> Any:
        """float32 number of updates before this one."""
        return ops.cast(self.iterations, "float32")


def clip_by_global_norm(gradients: list[Any], max_norm: float) -> tuple[list[Any], Any]:
    """Returns the gradients scaled so that their joint L2 norm is at most `max_norm`, and the norm before.

    Args:
      gradients: float32 tensors, already global.
      max_norm: 0 leaves them as they are.
    """
    norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
    if not max_norm:
        return gradients, norm
    scale = ops.minimum(1.0, max_norm / (norm + 1e-12))
    return [gradient * scale for gradient in gradients], norm


def is_decayed(name: str, shape: tuple[int, ...]) -> bool:
    """Returns whether weight decay acts on a parameter: matrices only, and not the position table."""
    return len(shape) >= 2 and name != "wpe.weight"
