"""Shards -> global batches, as a pure function of (records, seed, batch number).

Every host reads the whole record stream and keeps its own rows of each global batch: tokens are tiny, and the same
batches come out on any number of hosts and replicas. Only TensorFlow ops are used, so the datasets also run on the
remote hosts of a TPU pod. Record number r of the endless stream belongs to epoch r // records; batches run on across
the end of an epoch, so that every record appears exactly once in each.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from algpt2 import storage
from algpt2.config.records import DOCUMENTS_FORMAT
from algpt2.records.document_rows import document_batches, documents_of_rows
from algpt2.records.interleaving import standing_at
from algpt2.records.manifest import WEIGHTED_FORMAT
from algpt2.records.record_set import RecordSet
from algpt2.records.shard_reading import order_seed, records_from
from algpt2.records.tfrecords import assert_ids_below, parse_records, parse_weights

PARALLEL_READERS = 4
RECORDS_PER_TURN = 16
SHUFFLE_WINDOW_RECORDS = 16384
READ_BYTES = 1 << 18
_SHARD_ORDER, _RECORD_ORDER = 0, 1

OpenFrom = Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]
"""Returns a dataset of a shard, by its number, from one of its records on."""


def train_batches(
    record_set: RecordSet, batch_size: int, seed: int, first_batch: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """Returns an endless dataset of one host's replica batches, int32 (batch_size / replicas, seq_len + 1).

    Where targets have weights it gives pairs of that and of float32 (batch_size / replicas, seq_len), the weights
    divided by their mean over the global batch: the weighted sum over the number of targets is then the weighted mean.

    Args:
      record_set: what to read.
      batch_size: global batch in sequences, a multiple of the replicas.
      seed: of the order.
      first_batch: number of the first global batch; resuming needs nothing else.
      context: which host this is, of how many, and the number of replicas.
    """
    if record_set.record_format == DOCUMENTS_FORMAT:
        batches = document_batches(record_set, batch_size, seed, first_batch)
    else:
        batches = _record_batches(record_set, batch_size, seed, first_batch)
    first_row, rows = _host_rows(batch_size, context)

    def parse(batch: tf.Tensor) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        mine = slice(first_row, first_row + rows)
        ids = _split_replicas(_checked_ids(batch[mine], record_set), context)
        if record_set.record_format != WEIGHTED_FORMAT:
            return ids
        return ids, _split_replicas(_of_mean_one(parse_weights(batch, record_set.seq_len))[mine], context)

    return batches.map(parse, num_parallel_calls=tf.data.AUTOTUNE).unbatch().prefetch(tf.data.AUTOTUNE)


def _of_mean_one(weights: tf.Tensor) -> tf.Tensor:
    """uint8 (N, L), the weights of a global batch -> float32 (N, L), in proportion to them, whose mean is 1."""
    counted = tf.maximum(tf.math.count_nonzero(weights), 1)
    return tf.cast(weights, tf.float32) * tf.cast(tf.size(weights) / tf.cast(counted, tf.int32), tf.float32)


def _record_batches(record_set: RecordSet, batch_size: int, seed: int, first_batch: int) -> tf.data.Dataset:
    """Returns an endless dataset of global batches of serialized records, string (batch,)."""
    files, counts = tf.constant(record_set.files), _records_of_shards(record_set)

    def open_from(shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        return counted_shard(tf.gather(files, shard), tf.gather(counts, shard), first, record_set.record_bytes)

    return _global_batches(record_set, batch_size, seed, first_batch, open_from)


def _checked_ids(batch: tf.Tensor, record_set: RecordSet) -> tf.Tensor:
    """Serialized records, or rows of stored ids -> int32 (N, seq_len + 1), checked."""
    if batch.dtype == tf.string:
        return checked_records(batch, record_set)
    rows = tf.ensure_shape(batch, [batch.shape[0], record_set.seq_len + 1])
    return assert_ids_below(tf.cast(rows, tf.int32), record_set.vocab_size)


@dataclasses.dataclass(frozen=True)
class RecordId:
    """A record's place: the shard's file, and its 0-based number in it."""

    file: str
    index: int

    def __str__(self) -> str:
        return f"{storage.base_name(self.file)}:{self.index}"


@dataclasses.dataclass(frozen=True)
class PackedDocuments:
    """The places of the documents that have ids in a row, in order."""

    documents: tuple[RecordId, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.documents))


def record_ids(record_set: RecordSet, batch_size: int, seed: int, batch: int) -> list[RecordId] | list[PackedDocuments]:
    """Returns which records make up a global batch of `train_batches`, row by row."""
    counts = _records_of_shards(record_set)
    if record_set.record_format == DOCUMENTS_FORMAT:
        rows = documents_of_rows(record_set, batch_size, seed, batch)
        return [_packed_documents(row, record_set, counts.numpy()) for row in rows]

    def open_from(shard: tf.Tensor, first: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.range(first, tf.gather(counts, shard)).map(lambda i: tf.stack([shard, i]))

    (ids,) = _global_batches(record_set, batch_size, seed, batch, open_from).take(1)
    return [RecordId(record_set.files[shard], index) for shard, index in ids.numpy().tolist()]


def _packed_documents(numbers: list[int], record_set: RecordSet, counts: np.ndarray) -> PackedDocuments:
    ends = np.cumsum(counts)
    shards = np.searchsorted(ends, numbers, side="right").tolist()
    firsts = (ends - counts)[shards].tolist()
    places = zip(shards, firsts, numbers, strict=True)
    return PackedDocuments(tuple(RecordId(record_set.files[shard], number - first) for shard, first, number in places))


def val_batches(record_set: RecordSet, batch_size: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Returns one pass over all records, in order: replica batches of (records, weights).

    records: int32 (batch_size / replicas, seq_len + 1); weights: float32 (batch_size / replicas, 1), 0 for the rows
    that fill up the last batch, else 1. Where targets have weights it is those, (batch_size / replicas, seq_len).
    """
    shards = tf.data.Dataset.from_tensor_slices((list(record_set.files), _records_of_shards(record_set)))
    stream = shards.flat_map(counted_shard)
    first_row, rows = _host_rows(batch_size, context)

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        records = checked_records(serialized, record_set)
        missing = batch_size - tf.shape(records)[0]
        records = tf.ensure_shape(tf.pad(records, [[0, missing], [0, 0]]), (batch_size, record_set.seq_len + 1))
        weights = tf.cast(tf.range(batch_size) < batch_size - missing, tf.float32)[:, None]
        if record_set.record_format == WEIGHTED_FORMAT:
            stored = tf.cast(parse_weights(serialized, record_set.seq_len), tf.float32)
            weights = tf.ensure_shape(tf.pad(stored, [[0, missing], [0, 0]]), (batch_size, record_set.seq_len))
        records, weights = (whole[first_row : first_row + rows] for whole in (records, weights))
        return _split_replicas(records, context), _split_replicas(weights, context)

    batches = stream.batch(batch_size).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
    return batches.unbatch().prefetch(tf.data.AUTOTUNE)


def counted_shard(
    file: tf.Tensor | str, records: tf.Tensor | int, first: tf.Tensor | int = 0, record_bytes: int | None = None
) -> tf.data.Dataset:
    """Returns a shard's serialized records; if they are more or fewer than it should have, it ends in an error.

    A shard that was cut at a record's end, or exchanged for another, after its checksum was compared is found by this.

    Args:
      file: of the shard.
      records: how many it should have.
      first: the first record to give.
      record_bytes: of each record in the file, so that nothing in front of the first is read; None if they differ.
    """
    if record_bytes is None:
        stream = tf.data.TFRecordDataset(file).skip(tf.cast(first, tf.int64))
    else:
        stream = records_from(file, tf.cast(first, tf.int64) * record_bytes, READ_BYTES)
    return stream.apply(tf.data.experimental.assert_cardinality(tf.cast(records - first, tf.int64)))


def checked_records(serialized: tf.Tensor, record_set: RecordSet) -> tf.Tensor:
    """string (N,) -> int32 (N, seq_len + 1). A bad id stops the input: an accelerator would look up garbage for it."""
    records = parse_records(serialized, record_set.seq_len, record_set.vocab_size, record_set.record_format)
    return assert_ids_below(records, record_set.vocab_size)


def _records_of_shards(record_set: RecordSet) -> tf.Tensor:
    """Returns how many records each shard holds by its manifest, int64 (shards,)."""
    return tf.constant([shard.records for shard in record_set.shards], tf.int64)


def _global_batches(
    record_set: RecordSet, batch_size: int, seed: int, first_batch: int, open_from: OpenFrom
) -> tf.data.Dataset:
    """Returns an endless dataset of batches of what `open_from` gives for each record."""
    first_epoch, offset = divmod(first_batch * batch_size, record_set.records)
    first_window, rest = divmod(offset, SHUFFLE_WINDOW_RECORDS)
    begun = _rest_of_epoch(record_set, seed, first_epoch, first_window, open_from)
    begun = begun.enumerate().map(lambda i, window: window[rest if i == 0 else 0 :])
    later = tf.data.Dataset.range(first_epoch + 1, tf.int64.max).flat_map(
        lambda epoch: _windows(_whole_shards(_shard_order(record_set, seed, epoch)), 0, seed, epoch, open_from)
    )
    return begun.concatenate(later).rebatch(batch_size, drop_remainder=True)


def _rest_of_epoch(
    record_set: RecordSet, seed: int, epoch: int, first_window: int, open_from: OpenFrom
) -> tf.data.Dataset:
    """Returns the windows of an epoch from one on, without reading those in front of it."""
    order = _shard_order(record_set, seed, tf.constant(epoch, tf.int64)).numpy().tolist()
    records = [record_set.shards[shard].records for shard in order]
    position = first_window * SHUFFLE_WINDOW_RECORDS
    standing = standing_at(position, records, _readers(len(order)), RECORDS_PER_TURN)
    shards = np.array([(order[one.number], one.first_record) for one in standing.shards], np.int64)
    return _windows(shards, first_window, seed, tf.constant(epoch, tf.int64), open_from, standing.skip)


def _windows(
    shards: tf.Tensor | np.ndarray, first_window: int, seed: int, epoch: tf.Tensor, open_from: OpenFrom, skip: int = 0
) -> tf.data.Dataset:
    """Returns what `open_from` gives for shards' records, in windows, in an order that follows from (seed, epoch).

    All windows but an epoch's last hold SHUFFLE_WINDOW_RECORDS records. A window is one element of the dataset, because
    `tf.data` spends more time on an element than on a record. Shards are read a few at a time in turn; then each window
    of consecutive records is permuted. With up to SHUFFLE_WINDOW_RECORDS records this is a uniform permutation. With
    more it is not, and need not be, because make_tfrecords.py has shuffled the documents.

    Args:
      shards: int64 (N, 2), the number of each and its first record, in the order of reading.
      first_window: the number of the window that they begin with.
      seed: of the order.
      epoch: int64.
      open_from: see there.
      skip: how many of the first records are in the window before.
    """
    stream = tf.data.Dataset.from_tensor_slices(shards).interleave(
        lambda shard: open_from(shard[0], shard[1]),
        cycle_length=_readers(shards.shape[0]),
        block_length=RECORDS_PER_TURN,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )

    def permute(window: tf.Tensor, records: tf.Tensor) -> tf.Tensor:
        window_seed = tf.random.experimental.stateless_fold_in(order_seed(seed, _RECORD_ORDER, epoch), window)
        return tf.random.experimental.stateless_shuffle(records, window_seed)

    return stream.skip(skip).batch(SHUFFLE_WINDOW_RECORDS).enumerate(first_window).map(permute)


def _shard_order(record_set: RecordSet, seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """Returns the numbers of the shards in the order in which an epoch reads them: int64 (shards,)."""
    shards = tf.range(len(record_set.files), dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(shards, order_seed(seed, _SHARD_ORDER, epoch))


def _whole_shards(order: tf.Tensor) -> tf.Tensor:
    """int64 (N,) -> int64 (N, 2): each shard from its first record on."""
    return tf.stack([order, tf.zeros_like(order)], axis=1)


def _readers(n_shards: int) -> int:
    return min(PARALLEL_READERS, n_shards)


def _host_rows(batch_size: int, context: tf.distribute.InputContext) -> tuple[int, int]:
    """Returns this host's first row of a global batch, and how many rows it keeps."""
    rows = batch_size // context.num_input_pipelines
    return context.input_pipeline_id * rows, rows


def _split_replicas(rows: tf.Tensor, context: tf.distribute.InputContext) -> tf.Tensor:
    """(host rows, ...) -> (replicas on this host, rows of one replica, ...)."""
    replicas = max(1, context.num_replicas_in_sync // context.num_input_pipelines)
    shape = rows.shape.as_list()
    return tf.reshape(rows, [replicas, shape[0] // replicas, *shape[1:]])
