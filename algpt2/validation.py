"""Loss over a whole validation split, without dropout, on the replicas that train."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from algpt2.compilation import graph_function
from algpt2.input_pipeline import val_batches
from algpt2.losses import inputs_and_targets, token_nats
from algpt2.model import GPT
from algpt2.perplexity import bits_per_byte, perplexity
from algpt2.record_set import RecordSet


@dataclasses.dataclass(frozen=True)
class Loss:
    """Negative log-likelihood of `tokens` target tokens that spell `text_bytes` UTF-8 bytes."""

    total_nats: float
    tokens: int
    text_bytes: int

    def as_metrics(self) -> dict[str, float]:
        """Returns loss in nats per token, perplexity per token, and bits per byte."""
        return {
            "val_loss": self.total_nats / self.tokens,
            "val_perplexity": perplexity(self.total_nats, self.tokens),
            "val_bits_per_byte": bits_per_byte(self.total_nats, self.text_bytes),
        }


class Validator:
    """Scores every record of a split once; the rows that fill up the last batch have weight 0."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: GPT,
        record_set: RecordSet,
        batch_size: int,
        jit_compile: bool = True,
    ):
        self.strategy = strategy
        self.model = model
        self.record_set = record_set
        self.n_batches = math.ceil(record_set.records / batch_size)
        self.dataset = strategy.distribute_datasets_from_function(
            lambda context: val_batches(record_set, batch_size, context)
        )
        self._nats = graph_function(self._replica_nats, jit_compile, strategy)
        self._loop = tf.function(self._batches)

    def __call__(self) -> Loss:
        """Returns the loss over the whole split with the model's present parameters."""
        batch_nats = self._loop(iter(self.dataset)).numpy()
        tokens = self.record_set.records * self.record_set.seq_len
        return Loss(float(np.sum(batch_nats, dtype=np.float64)), tokens, self.record_set.target_bytes)

    def _batches(self, iterator: tf.data.Iterator) -> tf.Tensor:
        nats = tf.TensorArray(tf.float32, size=self.n_batches)
        for i in tf.range(self.n_batches):
            per_replica = self.strategy.run(self._nats, args=next(iterator))
            nats = nats.write(i, self.strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None))
        return nats.stack()

    def _replica_nats(self, records: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        inputs, targets = inputs_and_targets(records)
        nats = token_nats(self.model(inputs, training=False), targets)
        return tf.reduce_sum(nats * weights[:, None])
