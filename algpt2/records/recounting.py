"""What a shard really holds: every record is read and checked, and its target bytes are counted anew."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from algpt2 import storage
from algpt2.records.manifest import IDS_BEHIND_EOS, WEIGHTED_FORMAT
from algpt2.records.shard_writing import count_documents
from algpt2.records.tfrecords import (
    ID_RANGE_RULE,
    RECORD_LENGTH_RULE,
    assert_ids_below,
    identify_record,
    parse_records,
    parse_weights,
)
from algpt2.records.weighted_writing import count_conversations, weighted_bytes

BATCH_RECORDS = 1024
FRAME_BYTES = 16  # a record's length, its checksum and the data's checksum
RECORD_RULE = "every record must be a tf.train.Example of `ids`, or of `inputs` and, one id further on, `labels`"
MAKE_AGAIN = "make the records again"


class RecordFault(ValueError):
    """Says which rule a file or a record breaks, and what was found; `remedy` is what their maker can do."""

    def __init__(self, sentence: str, remedy: str):
        super().__init__(sentence)
        self.remedy = remedy


@dataclasses.dataclass(frozen=True)
class RecordKind:
    """The format and length that all records of a folder must have, and the vocabulary's size.

    `told_by` is what says so, as in "the manifest".
    """

    record_format: str
    seq_len: int
    vocab_size: int
    told_by: str

    @classmethod
    def of_first_record(cls, file: str, vocab_size: int) -> "RecordKind":
        """Returns the kind of a file's first record.

        Raises:
          RecordFault: it is of no known kind, or the file is damaged or empty.
        """
        serialized = next(serialized_batches(file, 1), None)
        if serialized is None:
            raise empty_file(file)
        try:
            record_format, ids = identify_record(serialized.numpy()[0], vocab_size)
        except ValueError as error:
            raise RecordFault(f"{RECORD_RULE}, and record 0 of {file} {error}", MAKE_AGAIN) from error
        return cls(record_format, len(ids) - 1, vocab_size, "the folder's first")

    def ids(self, serialized: tf.Tensor) -> np.ndarray:
        """string (N,) -> int32 (N, seq_len + 1); `tf.errors.InvalidArgumentError` if one is of another kind."""
        ids = parse_records(serialized, self.seq_len, self.vocab_size, self.record_format)
        return assert_ids_below(ids, self.vocab_size).numpy()

    def fault(self, serialized: bytes, place: str) -> RecordFault | None:
        """Returns what is wrong with one record, or None."""
        try:
            record_format, ids = identify_record(serialized, self.vocab_size)
        except ValueError as error:
            return RecordFault(f"{RECORD_RULE}, and {place} {error}", MAKE_AGAIN)
        if record_format != self.record_format:
            return RecordFault(
                f"all records of a folder must have one format, {self.record_format} as in {self.told_by}, and {place} "
                f"has {record_format}",
                "put each format into a folder of its own",
            )
        if len(ids) != self.seq_len + 1:
            return RecordFault(
                f"{RECORD_LENGTH_RULE}, {self.seq_len + 1} as in {self.told_by}, and {place} has {len(ids)}",
                "put each length into a folder of its own",
            )
        foreign = ids[(ids < 0) | (ids >= self.vocab_size)]
        if len(foreign):
            return RecordFault(
                f"{ID_RANGE_RULE} of the tokenizer, {self.vocab_size}, and {place} has {foreign[0]}",
                "name the tokenizer that the records were made with",
            )
        return None


class Recounted(NamedTuple):
    """What was counted of a file, by the names of its entry in a manifest (`Shard`)."""

    records: int
    target_bytes: int
    documents: int
    weighted_targets: int | None = None


def recount(file: str, kind: RecordKind, byte_lengths: np.ndarray, progress: Any) -> Recounted:
    """Returns how many records a file holds, the UTF-8 size of the text that their targets spell, and their documents.

    Args:
      file: a TFRecord file, on disk or gs://.
      kind: what every record must be like.
      byte_lengths: int (vocab_size,), how many bytes of text each id spells.
      progress: a bar that counts the file's bytes.

    Raises:
      RecordFault: the file is damaged, or a record is of another kind.
    """
    count_batch = _count_weighted if kind.record_format == WEIGHTED_FORMAT else _count_ids
    total = Recounted(0, 0, 0, 0 if kind.record_format == WEIGHTED_FORMAT else None)
    for serialized in serialized_batches(file, BATCH_RECORDS):
        try:
            found = count_batch(serialized, kind, byte_lengths)
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            # TensorFlow's message may quote bytes of the record, and is then no text that Python could decode.
            if fault := _first_fault(file, total.records, serialized, kind):
                raise fault from error
            raise
        pairs = zip(total, found, strict=True)
        total = Recounted(*(None if one is None else one + other for one, other in pairs))
        progress.update(int(tf.reduce_sum(tf.strings.length(serialized))) + FRAME_BYTES * found.records)
    return total


def _count_ids(serialized: tf.Tensor, kind: RecordKind, byte_lengths: np.ndarray) -> Recounted:
    ids = kind.ids(serialized)
    return Recounted(len(ids), int(byte_lengths[ids[:, 1:]].sum()), count_documents(ids, len(byte_lengths) - 1))


def _count_weighted(serialized: tf.Tensor, kind: RecordKind, byte_lengths: np.ndarray) -> Recounted:
    ids, weights = kind.ids(serialized), parse_weights(serialized, kind.seq_len).numpy()
    documents = count_conversations(ids, len(byte_lengths) - 1 - IDS_BEHIND_EOS[WEIGHTED_FORMAT])
    return Recounted(len(ids), weighted_bytes(ids, weights, byte_lengths), documents, int(weights.sum(dtype=np.int64)))


def serialized_batches(file: str, size: int) -> Iterator[tf.Tensor]:
    """Yields a file's serialized records, string (up to size,) at a time; `RecordFault` if the file is damaged."""
    try:
        with storage.local_copy(file) as local_file:
            yield from tf.data.TFRecordDataset(local_file).batch(size)
    except tf.errors.DataLossError as error:
        raise RecordFault(
            f"every file must be a whole, uncompressed TFRecord file, and {file} is damaged "
            f"({error.message.splitlines()[0]})",
            "copy it again",
        ) from error


def empty_file(file: str) -> RecordFault:
    """Returns the fault of a file that holds no record."""
    return RecordFault(f"every TFRecord file must hold records, and {file} has none", "copy it again or delete it")


def _first_fault(file: str, first: int, serialized: tf.Tensor, kind: RecordKind) -> RecordFault | None:
    """Returns what is wrong with the first bad one of a file's records, of which these start at number `first`."""
    faults = (
        kind.fault(record, f"record {number} of {file}") for number, record in enumerate(serialized.numpy(), first)
    )
    return next(filter(None, faults), None)
