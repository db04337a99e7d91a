"""AdamW whose state is shared out: each replica keeps and updates a part of it (ZeRO's first stage, arXiv:1910.02054).

Gradients are global before the optimizer sees them, so a replica takes its part of each, updates its part of each
parameter by it, and all replicas exchange these parts. What is kept between two steps is a part of the moments.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from algpt2.model.tensors import Tensor
from algpt2.optim.adamw import AdamW
from algpt2.optim.base import EMA_SLOT
from algpt2.optim.replicas import Replicas


class SharedOutVariable:
    """A float32 variable of which each replica holds a part. To a checkpoint it is one whole variable.

    The whole is a row of equal units, which are elements or arrays, padded with zeros to a multiple of the replicas and
    cut into as many parts.

    Attributes:
      shape: of the whole.
      dtype: "float32".
      part: what this replica holds, (part_units, *unit_shape), in a replica's context.
      part_units: units of a part.
    """

    dtype = "float32"

    def __init__(self, replicas: Replicas, shape: Sequence[int], name: str, unit_shape: Sequence[int] = ()):
        """Creates it, zero, on every replica; call it in the strategy's scope.

        Args:
          replicas: among which it is shared out.
          shape: of the whole.
          name: of the variable.
          unit_shape: of what is never cut; the whole is so many of these as its elements make.
        """
        self._replicas = replicas
        self.shape = tuple(shape)
        self._unit_shape = tuple(unit_shape)
        self._units = math.prod(self.shape) // math.prod(self._unit_shape)
        self.part_units = -(-self._units // replicas.count)
        self.part = replicas.create_parts((self.part_units, *self._unit_shape), name)

    @property
    def part_bytes(self) -> int:
        """The size of one replica's part."""
        return 4 * self.part_units * math.prod(self._unit_shape)

    def own(self, whole: Tensor) -> Tensor:
        """Returns this replica's part of a tensor of the whole's shape, in a replica's context."""
        units = tf.reshape(whole, (-1, *self._unit_shape))
        missing = self.part_units * self._replicas.count - self._units
        padded = tf.pad(units, [(0, missing), *[(0, 0)] * len(self._unit_shape)])
        first = self._replicas.own_index() * self.part_units
        return tf.slice(padded, [first, *[0] * len(self._unit_shape)], [self.part_units, *self._unit_shape])

    def whole(self, parts: Tensor) -> Tensor:
        """Returns the tensor of the whole's shape that all replicas' parts, one behind the other, make."""
        return tf.reshape(parts[: self._units], self.shape)

    def numpy(self) -> np.ndarray:
        """Returns the whole, on the host. Every process of the strategy must call it, because all exchange parts."""
        return self._replicas.gathered(self.part)[: self._units].reshape(self.shape)

    def assign(self, whole: np.ndarray) -> None:
        """Sets each replica's part to that of the whole."""
        self.assign_units(0, whole)

    def assign_units(self, first: int, units: np.ndarray) -> None:
        """Sets some units, on the replicas that hold them.

        Args:
          first: the 0-based number of the first one.
          units: their values, one behind the other.
        """
        units = np.reshape(units, (-1, *self._unit_shape))
        for index, part in self._replicas.local_parts(self.part):
            begin = index * self.part_units
            low, high = max(first, begin), min(first + len(units), begin + self.part_units)
            if low < high:
                values = np.array(part.numpy())
                values[low - begin : high - begin] = units[low - first : high - first]
                part.assign(values)


@keras.saving.register_keras_serializable(package="algpt2")
class ShardedAdamW(AdamW):
    """AdamW (`AdamW` has the formula), whose moments and moving average are shared out to the replicas.

    It must be applied in a replica's context, as `TrainStep` does, to all variables in the order of `build`. The
    parameters are the same as AdamW's.
    """

    slots: dict[str, list[SharedOutVariable]]
    is_shared_out = True

    def __init__(self, *arguments: Any, replicas: Replicas | None = None, **options: Any):
        """Makes the optimizer, its state not yet created.

        Args:
          arguments: those of the optimizer that it shares out.
          replicas: among which the state is shared out; None for those of the strategy in whose scope it is made.
          options: those of the optimizer that it shares out.
        """
        super().__init__(*arguments, **options)
        self._replicas = replicas or Replicas(tf.distribute.get_strategy())

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        self.slots = {name: self._shared_out(var_list, name) for name in ("first_moment", "second_moment")}

    def _create_average(self, var_list: list[keras.Variable]) -> None:
        self.slots[EMA_SLOT] = self._shared_out(var_list, EMA_SLOT)

    def _shared_out(self, var_list: list[keras.Variable], name: str) -> list[SharedOutVariable]:
        return [SharedOutVariable(self._replicas, v.shape, f"{name}_{v.name}") for v in var_list]

    def apply(self, grads: list[Tensor], trainable_variables: list[keras.Variable]) -> None:
        """Updates this replica's part of each variable, and sets each variable to what all replicas' parts make."""
        rate = tf.cast(self._get_current_learning_rate(), tf.float32)
        super().apply(self._new_values(grads, trainable_variables, rate), trainable_variables)

    def _new_values(self, gradients: list[Tensor], variables: list[keras.Variable], rate: Tensor) -> list[Tensor]:
        """Returns what the variables are after the update; it updates this replica's part of their state."""
        parts = [self._new_part(*pair, rate) for pair in zip(gradients, variables, strict=True)]
        exchanged = self._replicas.exchange(parts)
        return [self._slot("first_moment", v).whole(p) for v, p in zip(variables, exchanged, strict=True)]

    def _new_part(self, gradient: Tensor, variable: keras.Variable, rate: Tensor) -> Tensor:
        """Returns this replica's part of a variable after the update, and updates the state of that part."""
        first, second = self._slot("first_moment", variable), self._slot("second_moment", variable)
        self._take_in(first.part, second.part, first.own(gradient))
        step = rate * self._direction(first.part, second.part)
        part = self._moved(variable, first.own(variable.value), step, rate)
        self._take_into_average(variable, part)
        return part

    def _moved(self, variable: keras.Variable, value: Tensor, step: Tensor, rate: Tensor) -> Tensor:
        """Returns what a variable, or a part of it, is after weight decay and a step, unless the update is skipped."""
        moved = value
        if self.weight_decay is not None and self._use_weight_decay(variable):
            moved = moved - value * self.weight_decay * rate
        moved = moved - step
        return moved if self._skip is None else tf.where(self._skip, value, moved)

    def _take_into_average(self, variable: keras.Variable, part: Tensor) -> None:
        """Takes this replica's part of a variable into the moving average, if there is one."""
        if self.ema_decay:
            average = self._slot(EMA_SLOT, variable).part
            average.assign(self.ema_decay * average + (1 - self.ema_decay) * part)

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        """Sets a variable to its new value, which `apply` hands to Keras in the place of the gradient."""
        self.assign(variable, gradient)

    def state_bytes(self) -> int:
        """Returns the size of one replica's parts of all state."""
        return sum(shared.part_bytes for shared in self._shared_out_variables())

    def _shared_out_variables(self) -> Iterator[SharedOutVariable]:
        """Yields all state that is shared out."""
        for slot in self.slots.values():
            yield from (shared for shared in slot if isinstance(shared, SharedOutVariable))
