"""What every order of records needs: a shard read from a byte on, and the seeds of an epoch."""

import tensorflow as tf


def records_from(file: tf.Tensor | str, first_byte: tf.Tensor, read_bytes: tf.Tensor | int) -> tf.data.Dataset:
    """Returns the records of a file from a byte on, where one begins: `TFRecordDataset` has no such argument.

    Args:
      file: a TFRecord file.
      first_byte: where a record begins, int64.
      read_bytes: how many bytes are read at a time.
    """
    stream = tf.raw_ops.TFRecordDatasetV2(
        filenames=[file], compression_type="", buffer_size=read_bytes, byte_offsets=[first_byte]
    )
    return tf.data.experimental.from_variant(stream, tf.TensorSpec([], tf.string))


def order_seed(seed: int, purpose: int, epoch: tf.Tensor) -> tf.Tensor:
    """Returns the seed of one purpose's random numbers in an epoch, int64 (2,)."""
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, purpose], tf.int64), epoch)
