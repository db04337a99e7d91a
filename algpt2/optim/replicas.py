"""The replicas of a run, as an optimizer sees them that shares its work and its state out to them."""

from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from algpt2.model.tensors import Tensor


class Replicas:
    """The replicas of a strategy, each of which has a number and brings parts of its own.

    `own_index`, `exchange` and `sum_over_replicas` are for a replica's context, the other methods for outside of it.

    Attributes:
      count: how many there are, in all processes together.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self.count = strategy.num_replicas_in_sync
        self._strategy = strategy

    def own_index(self) -> Tensor:
        """Returns this replica's 0-based number, int32 ()."""
        return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int32)

    def exchange(self, parts: list[Tensor]) -> list[Tensor]:
        """float32 (k, ...) -> (count k, ...) each: all replicas' parts, one behind the other, the same on all replicas.

        It is one sum over replicas, to which each brings its parts among zeros. So a TPU's `all_gather` is made, too,
        and with NCCL that one would go through a single device.
        """
        return self.sum_over_replicas([self._among_zeros(part) for part in parts])

    def _among_zeros(self, part: Tensor) -> Tensor:
        """(k, ...) -> (count k, ...), zeros at the places of all others."""
        is_own = tf.equal(tf.range(self.count), self.own_index())
        is_own = tf.reshape(is_own, (self.count, *[1] * part.shape.rank))
        # A product would spread what is not finite.
        placed = tf.where(is_own, part[tf.newaxis], 0.0)
        return tf.reshape(placed, (self.count * part.shape[0], *part.shape[1:]))

    def sum_over_replicas(self, values: list[Tensor]) -> list[Tensor]:
        """Returns the sums of what each replica brings, the same on all replicas."""
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)

    def create_parts(self, shape: Sequence[int], name: str) -> tf.Variable:
        """Returns a variable of which each replica has a value of its own, zero; call it in the strategy's scope."""
        return tf.Variable(
            tf.zeros(shape),
            trainable=False,
            name=name,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.NONE,
        )

    def gathered(self, parts: tf.Variable) -> np.ndarray:
        """Returns all replicas' values, one behind the other; every process of the strategy must call it."""
        local = self._strategy.experimental_local_results(parts)
        if len(local) == self.count:
            return np.concatenate([part.numpy() for part in local])
        return self._strategy.gather(parts, axis=0).numpy()

    def local_parts(self, parts: tf.Variable) -> Iterable[tuple[int, tf.Variable]]:
        """Returns number and value of each replica of this process."""
        indices = []

        def note_index(context: tf.distribute.experimental.ValueContext) -> Tensor:
            indices.append(context.replica_id_in_sync_group)
            return tf.zeros(())

        self._strategy.experimental_distribute_values_from_function(note_index)
        return zip(indices, self._strategy.experimental_local_results(parts), strict=True)
