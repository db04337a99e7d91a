"""What our optimizers share: they take gradients that are already global, summed over replicas and then clipped.

Keras' own optimizers all-reduce every gradient inside `apply`, and clip before that (docs/design/optim.md says why ours
do not).
"""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from algpt2.model.tensors import Tensor

EMA_SLOT = "ema"
# One variable of state for each parameter, or None where an optimizer needs none for it, under the slot's name.
Slots = dict[str, list[keras.Variable | None]]
LearningRate = float | LearningRateSchedule


class GlobalGradientOptimizer(keras.optimizers.Optimizer):
    """Base: applies global gradients as they are, and names its state so that a checkpoint can hold it.

    For each variable it applies the weight decay, then the update, and then takes the variable into the moving average
    of the weights, if there is one: a = ema_decay a + (1 - ema_decay) p, from a = 0. After t updates
    `a / (1 - ema_decay^t)` is the mean of all p so far, in which an update counts ema_decay times as much as the next.

    Attributes:
      slots: the state by its name, a variable for each parameter.
      is_shared_out: whether each replica holds a part of the state, so that all processes must take part in a copy.
    """

    slots: Slots
    is_shared_out = False

    def __init__(self, ema_decay: float = 0.0, decayed: Sequence[bool] | None = None, **kwargs: Any):
        """Makes the optimizer, its state not yet created.

        Args:
          ema_decay: in [0, 1); 0 keeps no moving average.
          decayed: for every variable, in the order of `build`, whether weight decay acts on it; None for all that
            `exclude_from_weight_decay` does not name. A Keras file needs it, because it names no variables.
          kwargs: `learning_rate`, `weight_decay`, `name` and what else every Keras optimizer takes.
        """
        super().__init__(**kwargs)
        self.ema_decay = ema_decay
        self.decayed = decayed
        self._skip: Tensor | None = None

    def build(self, var_list: list[keras.Variable]) -> None:
        """Creates the state, zero, for every variable."""
        if self.built:
            return
        if self.decayed is not None:
            pairs = zip(var_list, self.decayed, strict=True)
            self.exclude_from_weight_decay([variable for variable, decays in pairs if not decays])
        super().build(var_list)
        self.decayed = [self._use_weight_decay(variable) for variable in var_list]
        self._create_slots(var_list)
        if self.ema_decay:
            self._create_average(var_list)

    def _create_average(self, var_list: list[keras.Variable]) -> None:
        """Creates the moving average of every variable and puts it into `slots`."""
        self.slots[EMA_SLOT] = self.add_optimizer_variables(var_list, EMA_SLOT)

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        """Creates the state of every variable and puts it into `slots`."""
        raise NotImplementedError

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Returns the gradients as they are: Keras calls this to sum over replicas, and they are summed already."""
        return grads_and_vars

    @contextlib.contextmanager
    def skipping(self, skip: Tensor | None) -> Iterator[None]:
        """While entered, an `apply` with a true `skip` leaves all but the moving average and the update count as it is.

        Args:
          skip: bool (), the same on every replica; None never skips, and adds nothing to the graph.
        """
        self._skip = skip
        try:
            yield
        finally:
            self._skip = None

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        """Applies weight decay and update to one variable, and takes it into its average; Keras calls this for each."""
        # Under `fit`, the gradient of a table in which rows were looked up comes as those rows.
        gradient = tf.convert_to_tensor(gradient)
        if self.weight_decay is not None and self._use_weight_decay(variable):
            self.assign_sub(variable, variable * self.weight_decay * learning_rate)
        self._update(gradient, variable, learning_rate)
        if self.ema_decay:
            average = self._slot(EMA_SLOT, variable)
            super().assign(average, self.ema_decay * average + (1 - self.ema_decay) * variable)

    def _update(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        """Updates one variable, to which weight decay has been applied already, and its state."""
        raise NotImplementedError

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        """Does nothing: `update_step` applies the decay, because Keras' way, which this replaces, cannot skip it."""

    def assign(self, variable: keras.Variable, value: Tensor) -> None:
        """Sets a variable, unless the update is skipped."""
        super().assign(variable, value if self._skip is None else ops.where(self._skip, variable, value))

    def assign_sub(self, variable: keras.Variable, value: Tensor) -> None:
        """Subtracts from a variable, unless the update is skipped."""
        super().assign_sub(variable, value if self._skip is None else ops.where(self._skip, 0.0, value))

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "ema_decay": self.ema_decay, "decayed": self.decayed}

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

    def copied_state(self, parameters: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
        """Returns a copy of `named_state` on the host.

        Every process of the strategy must call it, because state that is shared out to the replicas is gathered.
        """
        return host_copies(self.named_state(parameters))

    def rate_of(self, update: int) -> float:
        """Returns the learning rate of the update with this 0-based number, whichever was the last one."""
        rate = self._learning_rate
        if isinstance(rate, LearningRateSchedule):
            rate = rate(tf.constant(update, self.iterations.dtype))
        return float(rate)

    def state_bytes(self) -> int:
        """Returns the size of what one replica keeps of all slots, which are float32."""
        variables = [variable for slot in self.slots.values() for variable in slot if variable is not None]
        return sum(math.prod(variable.shape) * 4 for variable in variables)

    def _slot(self, name: str, variable: keras.Variable) -> keras.Variable:
        """Returns a parameter's variable of state."""
        return self.slots[name][self._get_variable_index(variable)]

    def _add_slot(self, name: str, variable: keras.Variable, shape: tuple[int, ...] | None) -> None:
        """Creates the next parameter's variable of state, or none if `shape` is None."""
        slot = None if shape is None else self.add_variable(shape, name=f"{name}_{variable.name}")
        self.slots[name].append(slot)

    def _updates_done(self) -> Tensor:
        """Returns the number of updates before this one, float32 ()."""
        return ops.cast(self.iterations, "float32")


def host_copies(variables: Mapping[str, keras.Variable]) -> dict[str, np.ndarray]:
    """Copies variables; a variable's own `numpy()` may be a view of memory that the next step overwrites."""
    return {name: np.array(variable.numpy(), order="C") for name, variable in variables.items()}


def clip_by_global_norm(gradients: list[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """Returns the gradients, scaled so that their joint L2 norm is at most `max_norm`, and the norm before, float32 ().

    Args:
      gradients: float32 tensors, already global.
      max_norm: the bound; 0 leaves the gradients as they are.
    """
    norm = ops.sqrt(sum(ops.sum(ops.square(gradient)) for gradient in gradients))
    if not max_norm:
        return gradients, norm
    scale = ops.minimum(1.0, max_norm / (norm + 1e-12))
    return [gradient * scale for gradient in gradients], norm


def is_decayed(name: str, shape: tuple[int, ...]) -> bool:
    """Returns whether weight decay acts on a parameter: matrices only, and no position table."""
    return len(shape) >= 2 and name != "wpe.weight"
