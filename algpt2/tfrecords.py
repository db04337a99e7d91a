"""The record schema, written and parsed here only: one bytes feature `ids` with `seq_len + 1` little-endian ids.

Ids are uint16 where the vocabulary allows it, else int32: half the bytes, and no integer lists to parse.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from algpt2 import storage
from algpt2.manifest import Shard

IDS_FEATURE = "ids"
LARGEST_UINT16_VOCAB_SIZE = 1 << 16
RECORD_LENGTH_RULE = "every record must hold seq_len + 1 ids"
ID_RANGE_RULE = "every token id must be below vocab_size"


def id_dtype(vocab_size: int) -> np.dtype:
    """Returns how ids are stored: little-endian uint16 for up to 65,536 of them, else int32."""
    return np.dtype("<u2" if vocab_size <= LARGEST_UINT16_VOCAB_SIZE else "<i4")


def serialize_record(ids: np.ndarray, vocab_size: int) -> bytes:
    """Returns the `tf.train.Example` of one record's ids, (seq_len + 1,).

    Raises:
      ValueError: an id is not in the vocabulary, so that it would be stored as another one.
    """
    ids = np.asarray(ids)
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}, received {ids.min()} to {ids.max()}")
    value = tf.train.BytesList(value=[ids.astype(id_dtype(vocab_size)).tobytes()])
    features = tf.train.Features(feature={IDS_FEATURE: tf.train.Feature(bytes_list=value)})
    return tf.train.Example(features=features).SerializeToString(deterministic=True)


def parse_records(serialized: tf.Tensor, seq_len: int, vocab_size: int) -> tf.Tensor:
    """Returns the ids of a batch of records: int32 (N, seq_len + 1). TensorFlow ops only.

    Args:
      serialized: string (N,), each one `serialize_record`'s.
      seq_len: target tokens a record.
      vocab_size: the one it was written with, which decides the stored type.

    Raises:
      tf.errors.InvalidArgumentError: a record has another length, or no ids.
    """
    dtype = id_dtype(vocab_size)
    size_bytes = (seq_len + 1) * dtype.itemsize
    stored = tf.io.parse_example(serialized, {IDS_FEATURE: tf.io.FixedLenFeature([], tf.string)})[IDS_FEATURE]
    check = tf.debugging.assert_equal(
        tf.strings.length(stored),
        size_bytes,
        message=f"{RECORD_LENGTH_RULE} = {seq_len + 1} ({size_bytes} bytes)",
    )
    with tf.control_dependencies([check] if check is not None else []):  # decode_raw itself would pad or cut
        ids = tf.io.decode_raw(stored, tf.dtypes.as_dtype(dtype), little_endian=True, fixed_length=size_bytes)
    return tf.ensure_shape(tf.cast(ids, tf.int32), [None, seq_len + 1])


def assert_ids_below(ids: tf.Tensor, vocab_size: int) -> tf.Tensor:
    """Returns `ids`, any integer type and shape, after checking that all are from 0 to `vocab_size - 1`.

    It works inside a graph; call it in the input pipeline, on the host, because XLA leaves such checks out.

    Raises:
      tf.errors.InvalidArgumentError: one is not. An embedding on an accelerator would look up garbage instead.
    """
    message = f"{ID_RANGE_RULE} = {vocab_size}; smallest and largest id:"
    limit = tf.cast(vocab_size, ids.dtype)
    in_vocabulary = tf.reduce_all((ids >= 0) & (ids < limit))
    check = tf.debugging.Assert(in_vocabulary, [message, tf.reduce_min(ids), tf.reduce_max(ids)])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(ids)


def write_shard(path: str, records: Iterable[np.ndarray], byte_lengths: np.ndarray) -> Shard:
    """Writes records, each (seq_len + 1,), to one TFRecord file, whole or not at all, and returns its entry.

    Args:
      path: where the file goes.
      records: ids below the vocabulary's size.
      byte_lengths: int (vocab_size,), how many bytes of text each id spells.
    """
    count, target_bytes = 0, 0
    with storage.writing(path) as local_file:
        with tf.io.TFRecordWriter(local_file) as writer:
            for record in records:
                writer.write(serialize_record(record, len(byte_lengths)))
                count += 1
                target_bytes += int(byte_lengths[record[1:]].sum())
        local = storage.of(local_file)
        size_bytes, crc32c = local.size_bytes(local_file), local.crc32c(local_file)
    return Shard(storage.base_name(path), count, size_bytes, crc32c, target_bytes)


def read_records(path: str, seq_len: int, vocab_size: int) -> Iterator[np.ndarray]:
    """Yields the records of one shard, int32 (seq_len + 1,), for a look at them; training uses its own pipeline.

    Raises:
      tf.errors.InvalidArgumentError: a record has another length.
    """
    with storage.local_copy(path) as local_file:
        for serialized in tf.data.TFRecordDataset(local_file).batch(1):
            yield parse_records(serialized, seq_len, vocab_size)[0].numpy()
