"""Reads a shard of documents from its beginning, and checks all of it, for a look at them and for comparisons."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from algpt2.records.record_bytes import id_dtype
from algpt2.records.recounting import (
    BATCH_RECORDS,
    FRAME_BYTES,
    MAKE_AGAIN,
    RECORD_RULE,
    RecordFault,
    serialized_batches,
)
from algpt2.records.tfrecords import DOCUMENT_RULE, ID_RANGE_RULE, stored_documents


@dataclasses.dataclass(frozen=True)
class DocumentBatch:
    """Documents of a shard that follow one another.

    Attributes:
      lengths: int64 (N,), how many ids each has, EOS counted.
      ids: int64, one document after the other, EOS in front of each.
      size_bytes: of their frames.
    """

    lengths: np.ndarray
    ids: np.ndarray
    size_bytes: int


def read_documents(file: str, vocab_size: int, size: int = BATCH_RECORDS) -> Iterator[DocumentBatch]:
    """Yields the documents of a shard, some at a time.

    Args:
      file: a TFRecord file, on disk or gs://.
      vocab_size: of the tokenizer, whose last id is EOS.
      size: how many documents come at a time.

    Raises:
      RecordFault: the file is damaged, or a record is not the ids of a document with an EOS in front alone.
    """
    count, dtype = 0, id_dtype(vocab_size)
    for serialized in serialized_batches(file, size):
        try:
            stored = stored_documents(serialized, vocab_size).numpy()
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            raise RecordFault(f"{RECORD_RULE}, and one of {file} from record {count} on is not", MAKE_AGAIN) from error
        lengths = np.array([len(document) for document in stored], np.int64) // dtype.itemsize
        ids = np.frombuffer(b"".join(stored), dtype).astype(np.int64)
        _require_documents(lengths, ids, vocab_size, file, count)
        count += len(lengths)
        size_bytes = int(tf.reduce_sum(tf.strings.length(serialized))) + FRAME_BYTES * len(lengths)
        yield DocumentBatch(lengths, ids, size_bytes)


def recount_documents(file: str, vocab_size: int, byte_lengths: np.ndarray, progress: Any) -> tuple[np.ndarray, int]:
    """Returns the lengths of a shard's documents, EOS counted, uint32 (records,), and the UTF-8 size of their text.

    Args:
      file: a TFRecord file, on disk or gs://.
      vocab_size: of the tokenizer.
      byte_lengths: int (vocab_size,), how many bytes of text each id spells.
      progress: a bar that counts the file's bytes.

    Raises:
      RecordFault: see `read_documents`.
    """
    lengths, target_bytes = [np.empty(0, np.uint32)], 0
    for batch in read_documents(file, vocab_size):
        lengths.append(batch.lengths.astype(np.uint32))
        target_bytes += int(byte_lengths[batch.ids].sum())
        progress.update(batch.size_bytes)
    return np.concatenate(lengths), target_bytes


def _require_documents(lengths: np.ndarray, ids: np.ndarray, vocab_size: int, file: str, first: int) -> None:
    foreign = np.flatnonzero((ids < 0) | (ids >= vocab_size))
    ends = np.cumsum(lengths)
    if len(foreign):
        place = first + int(np.searchsorted(ends, foreign[0], side="right"))
        raise RecordFault(
            f"{ID_RANGE_RULE} of the tokenizer, {vocab_size}, and record {place} of {file} has {ids[foreign[0]]}",
            "name the tokenizer that the records were made with",
        )
    wrong = np.setxor1d(np.flatnonzero(ids == vocab_size - 1), ends - lengths)
    if len(wrong):
        place = first + int(np.searchsorted(ends, wrong[0], side="right"))
        raise RecordFault(
            f"{DOCUMENT_RULE}, with an EOS in front alone, and record {place} of {file} has not", MAKE_AGAIN
        )
