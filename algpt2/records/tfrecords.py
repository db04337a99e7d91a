"""The record schema, parsed here only: one bytes feature `ids` with `seq_len + 1` little-endian ids.

Ids are uint16 where the vocabulary allows it, else int32: half the bytes, and no integer lists to parse. The original
project's schema, `inputs_labels`, is read and never written: two int64 features of `seq_len` ids each, `inputs` and,
one id further on, `labels`. Records of conversations, `weighted_ids`, have a second bytes feature, `weights`: for each
target a byte, 1 if it counts in the loss and 0 if not.
"""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.records.manifest import IDS_FORMAT, INPUTS_LABELS_FORMAT, WEIGHTED_FORMAT
from algpt2.records.record_bytes import IDS_FEATURE, WEIGHTS_FEATURE, id_dtype

INPUTS_FEATURE, LABELS_FEATURE = "inputs", "labels"
RECORD_LENGTH_RULE = "every record must hold seq_len + 1 ids"
ID_RANGE_RULE = "every token id must be below vocab_size"
LABELS_RULE = "the labels of every record must be its inputs one id further on"
COUNT_COMPLAINT = "was expected to contain"  # by `assert_cardinality`, which counts the records of a shard
DOCUMENT_RULE = "every record must hold the ids of a document"
TOKEN_COUNT_RULE = "documents must have as many ids as the file of their lengths says"
WEIGHTS_RULE = "every record must hold a weight of 0 or 1 for each of its seq_len targets"
RECORD_RULES = (RECORD_LENGTH_RULE, ID_RANGE_RULE, LABELS_RULE, DOCUMENT_RULE, TOKEN_COUNT_RULE, WEIGHTS_RULE)


def parse_records(serialized: tf.Tensor, seq_len: int, vocab_size: int, record_format: str = IDS_FORMAT) -> tf.Tensor:
    """Returns the ids of a batch of records: int32 (N, seq_len + 1). TensorFlow ops only.

    Args:
      serialized: string (N,), each one what `record_bytes.frames` frames, or the original project's.
      seq_len: target tokens a record.
      vocab_size: the one it was written with, which decides the stored type.
      record_format: a manifest's.

    Raises:
      tf.errors.InvalidArgumentError: a record has another length, or no ids, or labels that are not its inputs one id
        further on, or an int64 id beyond the vocabulary, which might be another one as int32.
    """
    if record_format == INPUTS_LABELS_FORMAT:
        ids = assert_ids_below(_parse_inputs_labels(serialized, seq_len), vocab_size)
    else:
        ids = _parse_ids(serialized, seq_len, vocab_size)
    return tf.ensure_shape(tf.cast(ids, tf.int32), [serialized.shape[0], seq_len + 1])


def _parse_ids(serialized: tf.Tensor, seq_len: int, vocab_size: int) -> tf.Tensor:
    """string (N,) -> uint16 or int32 (N, seq_len + 1)."""
    dtype = id_dtype(vocab_size)
    size_bytes = (seq_len + 1) * dtype.itemsize
    stored = _bytes_of(IDS_FEATURE, serialized)
    check = tf.debugging.assert_equal(
        tf.strings.length(stored),
        size_bytes,
        message=f"{RECORD_LENGTH_RULE} = {seq_len + 1} ({size_bytes} bytes)",
    )
    with _after(check):  # decode_raw itself would pad or cut a string of another length
        return tf.io.decode_raw(stored, tf.dtypes.as_dtype(dtype), little_endian=True, fixed_length=size_bytes)


def parse_weights(serialized: tf.Tensor, seq_len: int) -> tf.Tensor:
    """Returns the weights of the targets of a batch of records of `weighted_ids`: uint8 (N, seq_len). TensorFlow only.

    Args:
      serialized: string (N,), each one what `record_bytes.weighted_frame` frames.
      seq_len: target tokens a record.

    Raises:
      tf.errors.InvalidArgumentError: a record has another number of weights, or one that is neither 0 nor 1.
    """
    stored = _bytes_of(WEIGHTS_FEATURE, serialized)
    lengths = tf.strings.length(stored)
    check = tf.debugging.assert_equal(lengths, seq_len, message=f"{WEIGHTS_RULE} = {seq_len}")
    with _after(check):
        weights = tf.io.decode_raw(stored, tf.uint8, fixed_length=seq_len)
    check = tf.debugging.Assert(tf.reduce_all(weights <= 1), [WEIGHTS_RULE, tf.reduce_max(weights)])
    with _after(check):
        return tf.ensure_shape(tf.identity(weights), [serialized.shape[0], seq_len])


def stored_documents(serialized: tf.Tensor, vocab_size: int) -> tf.Tensor:
    """Returns the ids of documents, one a record, as they are stored: string (N,). TensorFlow ops only.

    Args:
      serialized: string (N,), each one what `record_bytes.frame` frames.
      vocab_size: the one it was written with, which decides the stored type.

    Raises:
      tf.errors.InvalidArgumentError: a record has no ids, or bytes that are none.
    """
    stored = _bytes_of(IDS_FEATURE, serialized)
    sizes = tf.strings.length(stored)
    is_whole = (sizes > 0) & (sizes % id_dtype(vocab_size).itemsize == 0)
    check = tf.debugging.Assert(tf.reduce_all(is_whole), [DOCUMENT_RULE, tf.reduce_min(sizes)])
    with _after(check):
        return tf.identity(stored)


def _bytes_of(feature: str, serialized: tf.Tensor) -> tf.Tensor:
    """Returns the one value of a bytes feature of each record: string (N,) -> string (N,)."""
    return tf.io.parse_example(serialized, {feature: tf.io.FixedLenFeature([], tf.string)})[feature]


def _parse_inputs_labels(serialized: tf.Tensor, seq_len: int) -> tf.Tensor:
    """string (N,) -> int64 (N, seq_len + 1)."""
    feature = tf.io.RaggedFeature(tf.int64)  # A fixed length would be checked too, in a message that names no rule.
    stored = tf.io.parse_example(serialized, {INPUTS_FEATURE: feature, LABELS_FEATURE: feature})
    inputs, labels = (_rows(stored[name], seq_len) for name in (INPUTS_FEATURE, LABELS_FEATURE))
    check = tf.debugging.assert_equal(labels[:, :-1], inputs[:, 1:], message=LABELS_RULE)
    with _after(check):
        return tf.concat([inputs[:, :1], labels], axis=1)


def _rows(stored: tf.RaggedTensor, seq_len: int) -> tf.Tensor:
    """Lists of integers -> (N, seq_len), after checking that each has that length."""
    message = f"{RECORD_LENGTH_RULE} = {seq_len + 1} ({seq_len} inputs and labels)"
    check = tf.debugging.assert_equal(stored.row_lengths(), seq_len, message=message)
    with _after(check):
        return tf.reshape(stored.flat_values, [-1, seq_len])


def _after(check: tf.Operation | None) -> contextlib.AbstractContextManager:
    """Makes a graph's operations in the block wait for an assertion; it is None outside a graph, where it has run."""
    return tf.control_dependencies([] if check is None else [check])


def identify_record(serialized: bytes, vocab_size: int) -> tuple[str, np.ndarray]:
    """Returns the format and the ids, int64 (seq_len + 1,), of one record of which nothing is known; slow.

    Raises:
      ValueError: it is of neither format. The message says what the record is or has instead.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except DecodeError as error:
        raise ValueError("is not one") from error
    if IDS_FEATURE in features:
        record_format, ids = IDS_FORMAT, _stored_ids(features[IDS_FEATURE].bytes_list.value, id_dtype(vocab_size))
        if WEIGHTS_FEATURE in features:
            record_format = WEIGHTED_FORMAT
            _require_weights(features[WEIGHTS_FEATURE].bytes_list.value, len(ids) - 1)
    elif INPUTS_FEATURE in features and LABELS_FEATURE in features:
        lists = (features[name].int64_list.value for name in (INPUTS_FEATURE, LABELS_FEATURE))
        record_format, ids = INPUTS_LABELS_FORMAT, _joined(*(np.array(values, dtype=np.int64) for values in lists))
    else:
        raise ValueError(f"has the features {sorted(features)}")
    if len(ids) < 2:
        raise ValueError(f"has {len(ids)} ids, too few for a target")
    return record_format, ids


def _require_weights(values: Sequence[bytes], targets: int) -> None:
    if len(values) != 1 or len(values[0]) != targets or not set(values[0]) <= {0, 1}:
        raise ValueError(f"has `{WEIGHTS_FEATURE}` that are not {targets} bytes, each 0 or 1")


def _stored_ids(values: Sequence[bytes], dtype: np.dtype) -> np.ndarray:
    if len(values) != 1 or len(values[0]) % dtype.itemsize:
        sizes = [len(value) for value in values]
        raise ValueError(f"has `{IDS_FEATURE}` of {sizes} bytes and not one string of {dtype.itemsize} bytes an id")
    return np.frombuffer(values[0], dtype).astype(np.int64)


def _joined(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    if len(inputs) != len(labels):
        raise ValueError(f"has {len(inputs)} inputs and {len(labels)} labels")
    if not np.array_equal(inputs[1:], labels[:-1]):
        raise ValueError("has labels that are not its inputs one id further on")
    return np.concatenate([inputs[:1], labels])


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
    with _after(check):
        return tf.identity(ids)


def read_records(path: str, seq_len: int, vocab_size: int, record_format: str = IDS_FORMAT) -> Iterator[np.ndarray]:
    """Yields the records of one shard, int32 (seq_len + 1,), for a look at them; training uses its own pipeline.

    Raises:
      UserError: a record is damaged, has another length or an id that is not in the vocabulary.
    """
    with storage.local_copy(path) as local_file, _refusing_content(path):
        for serialized in tf.data.TFRecordDataset(local_file).batch(1):
            records = parse_records(serialized, seq_len, vocab_size, record_format)
            yield assert_ids_below(records, vocab_size)[0].numpy()


def is_about_content(error: tf.errors.OpError) -> bool:
    """Returns whether an error says that what was read is not what the manifest says."""
    if isinstance(error, tf.errors.InvalidArgumentError):
        return any(rule in error.message for rule in RECORD_RULES)
    return isinstance(error, tf.errors.DataLossError) or COUNT_COMPLAINT in error.message


def refusal_of_content(error: tf.errors.OpError, place: str) -> UserError:
    """Returns what to say of an error that `is_about_content`.

    Args:
      error: what TensorFlow raised.
      place: the shard, or where the shards are if it is not known which of them it is.
    """
    if isinstance(error, tf.errors.DataLossError):
        found = _line_from("corrupted record", error.message)
        return UserError(f"a shard is damaged ({found}, in {place}): copy it again; checkpoints are intact.")
    if COUNT_COMPLAINT in error.message:
        found = _line_from(COUNT_COMPLAINT, error.message).partition(" [")[0].rstrip(".")
        return UserError(
            f"a shard must hold as many records as its manifest says, and one in {place} does not ({found}): copy it "
            "again; checkpoints are intact."
        )
    rule = next(rule for rule in RECORD_RULES if rule in error.message)
    found = _line_from(rule, error.message)
    return UserError(f"a record is not what its manifest says ({found}, in {place}): make the records again.")


@contextlib.contextmanager
def _refusing_content(path: str) -> Iterator[None]:
    """Turns what TensorFlow says of a bad record of one shard into a `UserError`."""
    try:
        yield
    except tf.errors.OpError as error:
        if not is_about_content(error):
            raise
        raise refusal_of_content(error, path) from error


def _line_from(start: str, message: str) -> str:
    """Returns the rest of the line in which `start` stands: TensorFlow tells where in the graph around it."""
    return message[max(0, message.find(start)) :].splitlines()[0]
