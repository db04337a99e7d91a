"""TFRecords written by TensorFlow without this package: the original project's `inputs` and `labels`, and our `ids`."""

import numpy as np
import tensorflow as tf


def serialize_original(ids=None, **features) -> bytes:
    """Returns the record of S ids (`inputs` all but the last, `labels` all but the first), or of any int64 features."""
    features = {"inputs": ids[:-1], "labels": ids[1:]} if ids is not None else features
    lists = {name: tf.train.Int64List(value=np.asarray(values, np.int64)) for name, values in features.items()}
    feature = {name: tf.train.Feature(int64_list=values) for name, values in lists.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def serialize_ids(ids, vocab_size) -> bytes:
    """Returns our record of ids: uint16 of up to 65,536 of them, else int32, little-endian."""
    value = tf.train.BytesList(value=[np.asarray(ids).astype("<u2" if vocab_size <= 65536 else "<i4").tobytes()])
    features = tf.train.Features(feature={"ids": tf.train.Feature(bytes_list=value)})
    return tf.train.Example(features=features).SerializeToString(deterministic=True)


def write_original(path, records) -> None:
    """Writes records, each (S,), to one TFRecord file."""
    write_serialized(path, [serialize_original(ids) for ids in records])


def write_serialized(path, serialized) -> None:
    """Writes strings to one TFRecord file."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in serialized:
            writer.write(record)
