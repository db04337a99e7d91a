"""AdamW whose state is shared out: each replica keeps and updates a part of it (ZeRO's first stage, arXiv:1910.02054).

Gradients are global before the optimizer sees them, so a replica takes its part of each, updates its part of each
parameter by it, and all replicas exchange these parts. What is kept between two steps is a part of the moments.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from algpt2.model.tensors import Tensor
from algpt2.optim.adamw import AdamW
from algpt2.optim.base import EMA_SLOT


class SharedOutVariable:
    """A variable of which each replica holds a part. To a checkpoint it is one whole variable.

    The whole is flattened, padded with zeros to a multiple of the replicas, and cut into as many equal parts.

    Attributes:
      shape: of the whole.
      dtype: "float32".
      part: what this replica holds, float32 (part_size,), in a replica's context.
      part_size: elements of a part.
    """

    dtype = "float32"

    def __init__(self, shape: Sequence[int], name: str):
        """Creates it, zero, on every replica; call it in the strategy's scope."""
        self._strategy = tf.distribute.get_strategy()
        self.shape = tuple(shape)
        self.part_size = -(-math.prod(self.shape) // self._strategy.num_replicas_in_sync)
        self.part = tf.Variable(
            tf.zeros((self.part_size,)),
            trainable=False,
            name=name,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.NONE,
        )
        # A strategy of TPUs runs compiled functions only. The variable is no argument of them, because of a variable of
        # several replicas a function would take the first one's.
        self._read = tf.function(lambda: self._strategy.run(lambda: tf.identity(self.part)))
        self._write = tf.function(lambda padded: self._strategy.run(self._write_own, args=(padded,)))

    def numpy(self) -> np.ndarray:
        """Returns the whole, on the host. Every process of the strategy must call it, because all exchange parts."""
        gathered = self._strategy.gather(self._read(), axis=0)
        return gathered.numpy()[: math.prod(self.shape)].reshape(self.shape)

    def assign(self, whole: np.ndarray) -> None:
        """Sets each replica's part to that of the whole."""
        flat = np.ravel(whole)
        parts = self.part_size * self._strategy.num_replicas_in_sync
        self._write(tf.constant(np.pad(flat, (0, parts - flat.size))))

    def own(self, whole: Tensor) -> Tensor:
        """Returns this replica's part of a tensor of the whole's shape, (part_size,), in a replica's context."""
        context = tf.distribute.get_replica_context()
        flat = tf.reshape(whole, (-1,))
        return self._slice(tf.pad(flat, [(0, self.part_size * context.num_replicas_in_sync - flat.shape[0])]))

    def _write_own(self, padded: Tensor) -> None:
        self.part.assign(self._slice(padded))

    def _slice(self, padded: Tensor) -> Tensor:
        first = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32) * self.part_size
        return tf.slice(padded, [first], [self.part_size])

    def whole(self, parts: Tensor) -> Tensor:
        """Returns the tensor of the whole's shape that all replicas' parts, one behind the other, make."""
        return tf.reshape(parts[: math.prod(self.shape)], self.shape)


@keras.saving.register_keras_serializable(package="algpt2")
class ShardedAdamW(AdamW):
    """AdamW (`AdamW` has the formula), whose moments and moving average are shared out to the replicas.

    It must be applied in a replica's context, as `TrainStep` does. The parameters are the same as AdamW's.
    """

    slots: dict[str, list[SharedOutVariable]]

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        self.slots = {name: _shared_out(var_list, name) for name in ("first_moment", "second_moment")}

    def _create_average(self, var_list: list[keras.Variable]) -> None:
        self.slots[EMA_SLOT] = _shared_out(var_list, EMA_SLOT)

    def apply(self, grads: list[Tensor], trainable_variables: list[keras.Variable]) -> None:
        """Updates this replica's part of each variable, and sets each variable to what all replicas' parts make."""
        rate = tf.cast(self._get_current_learning_rate(), tf.float32)
        parts = [self._updated_part(*pair, rate) for pair in zip(grads, trainable_variables, strict=True)]
        gathered = tf.distribute.get_replica_context().all_gather(parts, axis=0)
        wholes = [self._slot("first_moment", v).whole(p) for v, p in zip(trainable_variables, gathered, strict=True)]
        super().apply(wholes, trainable_variables)

    def _updated_part(self, gradient: Tensor, variable: keras.Variable, rate: Tensor) -> Tensor:
        """Returns this replica's part of a variable after the update, and updates the state of that part."""
        first, second = self._slot("first_moment", variable), self._slot("second_moment", variable)
        part, own_gradient = first.own(variable.value), first.own(gradient)
        updated = part
        if self.weight_decay is not None and self._use_weight_decay(variable):
            updated = updated - part * self.weight_decay * rate
        self._take_in(first.part, second.part, own_gradient)
        updated = updated - rate * self._direction(first.part, second.part)
        if self._skip is not None:
            updated = tf.where(self._skip, part, updated)
        if self.ema_decay:
            average = self._slot(EMA_SLOT, variable).part
            average.assign(self.ema_decay * average + (1 - self.ema_decay) * updated)
        return updated

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        """Sets a variable to its new value, which `apply` hands to Keras in the place of the gradient."""
        self.assign(variable, gradient)

    def state_bytes(self) -> int:
        """Returns the size of one replica's parts of all slots, which are float32."""
        return sum(shared.part_size * 4 for slot in self.slots.values() for shared in slot)


def _shared_out(var_list: list[keras.Variable], name: str) -> list[SharedOutVariable]:
    return [SharedOutVariable(tuple(variable.shape), f"{name}_{variable.name}") for variable in var_list]
