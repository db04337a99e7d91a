"""Shards of documents -> global batches of rows, packed anew in each epoch.

An epoch's stream is EOS, document, EOS, document, ..., and row number r of it has the seq_len + 1 ids from number
r x seq_len on, as packed records have. The stream is a pure function of (shards, seed, epoch): the blocks of documents
are permuted and parted into windows, the documents of a window are permuted, and so are the rows that end in it. How
many ids stand in front of each window follows from the blocks' sizes, so any row is found without reading what is in
front of its window and of the row that the window begins in. Only TensorFlow ops are used.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from algpt2.records.document_order import Blocks, blocks_of
from algpt2.records.record_bytes import id_dtype
from algpt2.records.record_set import RecordSet
from algpt2.records.shard_reading import order_seed, records_from
from algpt2.records.tfrecords import TOKEN_COUNT_RULE, assert_ids_below, stored_documents

WINDOW_TOKENS = 1 << 24
PARALLEL_BLOCKS = 8
_BLOCK_ORDER, _DOCUMENT_ORDER, _ROW_ORDER = 0, 1, 2

Spell = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Returns what stands in the stream for documents, one after the other, by the stored ids of each, string (N,), and
their numbers, int64 (N,): a value for each of their ids."""


class Windows(NamedTuple):
    """The windows of an epoch that are read, int64 (windows,) each.

    Attributes:
      number: of a window, in the epoch.
      first_block: place of its first block in the epoch's order.
      end_block: place behind its last.
      tokens: how many ids its documents have.
      skip: how many of the first rows that end in it are not wanted.
    """

    number: tf.Tensor
    first_block: tf.Tensor
    end_block: tf.Tensor
    tokens: tf.Tensor
    skip: tf.Tensor


def document_batches(record_set: RecordSet, batch_size: int, seed: int, first_batch: int) -> tf.data.Dataset:
    """Returns an endless dataset of global batches of ids as they are stored: uint16 or int32 (batch, seq_len + 1).

    Args:
      record_set: shards of documents.
      batch_size: rows.
      seed: of the order.
      first_batch: number of the first one; batches run on across the end of an epoch.
    """

    def spell(stored: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return _joined_ids(stored, record_set.vocab_size)

    return _batches(record_set, batch_size, seed, first_batch, spell)


def checked_documents(serialized: tf.Tensor, record_set: RecordSet) -> tf.Tensor:
    """Returns the ids of documents, one after the other, int32, from serialized records, string (N,), and checks them.

    Raises:
      tf.errors.InvalidArgumentError: a record has no ids, or one beyond the vocabulary.
    """
    ids = _joined_ids(stored_documents(serialized, record_set.vocab_size), record_set.vocab_size)
    return assert_ids_below(tf.cast(ids, tf.int32), record_set.vocab_size)


def documents_of_rows(record_set: RecordSet, batch_size: int, seed: int, batch: int) -> list[list[int]]:
    """Returns which documents have ids in each row of a global batch, by their numbers over all shards, in order."""
    itemsize = id_dtype(record_set.vocab_size).itemsize

    def spell(stored: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        return tf.repeat(numbers, tf.strings.length(stored) // itemsize)

    (rows,) = _batches(record_set, batch_size, seed, batch, spell).take(1).as_numpy_iterator()
    return [row[np.flatnonzero(np.diff(row, prepend=-1))].tolist() for row in rows]


def _joined_ids(stored: tf.Tensor, vocab_size: int) -> tf.Tensor:
    """string (N,) -> uint16 or int32, one document after the other."""
    dtype = tf.dtypes.as_dtype(id_dtype(vocab_size))
    return tf.io.decode_raw(tf.strings.reduce_join(stored), dtype, little_endian=True)


def _batches(record_set: RecordSet, batch_size: int, seed: int, first_batch: int, spell: Spell) -> tf.data.Dataset:
    first_epoch, first_row = divmod(first_batch * batch_size, record_set.records)
    blocks = Blocks(*(tf.constant(column, tf.int64) for column in blocks_of(record_set)))
    source = _Source(tf.constant(record_set.files), blocks, record_set.seq_len, record_set.vocab_size, seed, spell)
    epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)

    def rows_of(epoch: tf.Tensor) -> tf.data.Dataset:
        return source.rows(epoch, tf.where(epoch == first_epoch, tf.constant(first_row, tf.int64), 0))

    return epochs.flat_map(rows_of).rebatch(batch_size, drop_remainder=True)


@dataclasses.dataclass(frozen=True)
class _Source:
    """Shards of documents, and the seed of their order."""

    files: tf.Tensor
    blocks: Blocks
    seq_len: int
    vocab_size: int
    seed: int
    spell: Spell

    def rows(self, epoch: tf.Tensor, first_row: tf.Tensor) -> tf.data.Dataset:
        """Returns the rows of an epoch from one on, (rows, seq_len + 1) for each window."""
        order = tf.random.experimental.stateless_shuffle(
            tf.range(tf.size(self.blocks.tokens)), order_seed(self.seed, _BLOCK_ORDER, epoch)
        )
        blocks = Blocks(*(tf.gather(column, order) for column in self.blocks))
        windows, drop = _windows_from(blocks.tokens, self.seq_len, first_row)

        def read(window: Windows) -> tf.data.Dataset:
            of_window = Blocks(*(column[window.first_block : window.end_block] for column in blocks))
            ids = self._shuffled_documents(of_window, window, epoch)
            return ids.map(lambda ids: (window.number, window.skip, ids))

        def shuffle(number: tf.Tensor, skip: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
            seed = _window_seed(self.seed, _ROW_ORDER, epoch, number)
            return tf.random.experimental.stateless_shuffle(rows, seed)[skip:]

        # One window is read while the rows of the one before it are used.
        read_ahead = tf.data.Dataset.from_tensor_slices(windows).flat_map(read)
        return self._cut(read_ahead.prefetch(1), drop).map(shuffle)

    def _shuffled_documents(self, blocks: Blocks, window: Windows, epoch: tf.Tensor) -> tf.data.Dataset:
        """Returns the stream of one window's documents, permuted, as one element."""
        numbers = tf.ragged.range(blocks.first_document, blocks.first_document + blocks.documents).values
        seed = _window_seed(self.seed, _DOCUMENT_ORDER, epoch, window.number)

        def permute(stored: tf.Tensor) -> tf.Tensor:
            order = tf.random.experimental.stateless_shuffle(tf.range(tf.size(stored)), seed)
            ids = self.spell(tf.gather(stored, order), tf.gather(numbers, order))
            check = tf.debugging.assert_equal(tf.size(ids, tf.int64), window.tokens, message=TOKEN_COUNT_RULE)
            with tf.control_dependencies([check]):
                return tf.identity(ids)

        documents = tf.data.Dataset.from_tensor_slices(blocks).interleave(
            self._open,
            cycle_length=PARALLEL_BLOCKS,
            num_parallel_calls=PARALLEL_BLOCKS,
            deterministic=True,
        )
        return documents.rebatch(tf.reduce_sum(blocks.documents)).map(permute)

    def _open(self, block: Blocks) -> tf.data.Dataset:
        """Returns the stored ids of a block's documents, string (documents,), as one element."""
        file = tf.gather(self.files, block.shard)
        records = records_from(file, block.first_byte, block.size_bytes).take(block.documents)
        counted = records.apply(tf.data.experimental.assert_cardinality(block.documents))
        return counted.batch(block.documents).map(lambda serialized: stored_documents(serialized, self.vocab_size))

    def _cut(self, windows: tf.data.Dataset, drop: tf.Tensor) -> tf.data.Dataset:
        """Returns the rows that end in each window; what is left of it begins the first row of the next.

        Args:
          windows: of (number, skip, ids), which follow one another.
          drop: how many ids in front of all stand in no row.
        """

        def cut(state: tuple[tf.Tensor, tf.Tensor], window: tuple[tf.Tensor, ...]) -> tuple:
            (to_drop, rest), (number, skip, ids) = state, window
            ids = tf.concat([rest, ids], axis=0)[to_drop:]
            end = tf.maximum(tf.size(ids) - 1, 0) // self.seq_len * self.seq_len
            inputs = tf.reshape(ids[:end], [-1, self.seq_len])
            last = ids[self.seq_len : end + 1 : self.seq_len]
            return (tf.zeros([], tf.int64), ids[end:]), (number, skip, tf.concat([inputs, last[:, None]], axis=1))

        nothing = tf.zeros([0], windows.element_spec[-1].dtype)
        return windows.scan((drop, nothing), cut)


def _windows_from(tokens: tf.Tensor, seq_len: int, first_row: tf.Tensor) -> tuple[Windows, tf.Tensor]:
    """Returns the windows that are read for the rows from one on, and how many of their first ids are in no such row.

    A row belongs to the window in which it ends. The row that a window's first id stands in begins up to seq_len ids
    before it, so reading begins in the window of that row's first id.

    Args:
      tokens: of an epoch's blocks, in order, int64 (blocks,).
      seq_len: target tokens of a row.
      first_row: number of the first row that is wanted, int64.
    """
    ends = tf.cumsum(tokens)
    numbers = (ends - tokens) // WINDOW_TOKENS
    first_blocks = tf.where(tf.concat([[True], numbers[1:] != numbers[:-1]], axis=0))[:, 0]
    end_blocks = tf.concat([first_blocks[1:], [tf.size(tokens, tf.int64)]], axis=0)
    end_tokens = tf.gather(ends, end_blocks - 1)
    first_tokens = tf.concat([[0], end_tokens[:-1]], axis=0)
    rows_before = tf.maximum(first_tokens - 1, 0) // seq_len
    wanted = _last_at_most(rows_before, first_row)
    first_token = rows_before[wanted] * seq_len
    begin = _last_at_most(first_tokens, first_token)
    count = tf.range(tf.size(first_blocks, tf.int64))
    skip = tf.where(count == wanted, first_row - rows_before[wanted], 0)
    windows = Windows(count, first_blocks, end_blocks, end_tokens - first_tokens, skip)
    return Windows(*(column[begin:] for column in windows)), first_token - first_tokens[begin]


def _last_at_most(ascending: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Returns the place of the last of some ascending values that is not above another value, int64."""
    return tf.searchsorted(ascending, value[None], side="right", out_type=tf.int64)[0] - 1


def _window_seed(seed: int, purpose: int, epoch: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(order_seed(seed, purpose, epoch), window)
