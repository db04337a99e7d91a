"""Loss over a whole validation split, without dropout, on the replicas that train."""

import math

import numpy as np
import tensorflow as tf

from algpt2.devices.compilation import graph_function
from algpt2.evaluation.scores import Loss
from algpt2.model.gpt import GPT
from algpt2.model.losses import head_nats, inputs_and_targets
from algpt2.records.input_pipeline import val_batches
from algpt2.records.input_stream import InputStream
from algpt2.records.record_set import RecordSet
from algpt2.records.record_watch import RecordWatch


class Validator:
    """Scores every record of a split once; the rows that fill up the last batch have weight 0.

    Where targets have weights, only those of weight 1 count.

    Its graphs are compiled at the first call and serve all later ones.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: GPT,
        record_set: RecordSet,
        batch_size: int,
        jit_compile: bool = True,
    ):
        """Prepares input and graphs; nothing is read or compiled yet.

        Args:
          strategy: whose replicas score.
          model: made in the strategy's scope; its parameters are read anew in each call.
          record_set: the split.
          batch_size: records of a global batch, a multiple of the replicas.
          jit_compile: whether XLA compiles the graph where it can.
        """
        self.strategy = strategy
        self.model = model
        self.record_set = record_set
        self.batch_size = batch_size
        self.n_batches = math.ceil(record_set.records / batch_size)
        self.dataset = strategy.distribute_datasets_from_function(
            lambda context: val_batches(record_set, batch_size, context)
        )
        self._watch = RecordWatch(record_set)
        self._nats = graph_function(self._replica_nats, jit_compile, strategy)
        self._loop = tf.function(self._batches)

    def __call__(self) -> Loss:
        """Returns the loss over the whole split with the model's present parameters.

        Raises:
          UserError: a shard is not what it was when it was checked.
        """
        total_nats, _ = self._totals(self.n_batches)
        return Loss(total_nats, self.record_set.target_count, self.record_set.target_bytes)

    def loss_of_first_batches(self, n_batches: int) -> float:
        """Returns the loss over the split's first batches, or all if there are fewer, in nats per token."""
        total_nats, targets = self._totals(min(n_batches, self.n_batches))
        return total_nats / targets

    def _totals(self, n_batches: int) -> tuple[float, int]:
        """Returns the nats of the split's first batches, and how many targets counted."""
        self._watch.require_unchanged()
        stream = InputStream(self.dataset)
        nats, targets = self._loop(stream.iterator, tf.constant(n_batches, tf.int32))
        stream.close()
        return float(np.sum(nats.numpy(), dtype=np.float64)), int(np.sum(targets.numpy(), dtype=np.int64))

    def _batches(self, iterator: tf.data.Iterator, n_batches: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        nats, targets = (tf.TensorArray(dtype, size=n_batches) for dtype in (tf.float32, tf.int32))
        for i in tf.range(n_batches):
            per_replica = self.strategy.run(self._nats, args=next(iterator))
            sums = [self.strategy.reduce(tf.distribute.ReduceOp.SUM, one, axis=None) for one in per_replica]
            nats, targets = nats.write(i, sums[0]), targets.write(i, sums[1])
        return nats.stack(), targets.stack()

    def _replica_nats(self, records: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # With several workers the iterator's element spec leaves the number of rows open, and the model needs it.
        rows = self.batch_size // self.strategy.num_replicas_in_sync
        inputs, targets = inputs_and_targets(tf.ensure_shape(records, (rows, self.record_set.seq_len + 1)))
        nats = head_nats(self.model.hidden_states(inputs), self.model.head_table, targets)
        counted = tf.reduce_sum(tf.cast(weights, tf.int32)) * (targets.shape[1] // weights.shape[1])
        return tf.reduce_sum(nats * weights), counted
