"""Writes a shard of conversations, whose targets have weights: whole or not at all, with its checksum on the way."""

import numpy as np

from algpt2 import storage
from algpt2.records.record_bytes import id_dtype, weighted_frame
from algpt2.records.shard_entry import Shard
from algpt2.records.shard_writing import require_ids_below, shard_stream


def write_weighted_shard(
    path: str, records: np.ndarray, weights: np.ndarray, byte_lengths: np.ndarray, eos_id: int
) -> Shard:
    """Writes records and the weights of their targets to one TFRecord file, and returns its entry.

    Args:
      path: where the file goes.
      records: integers (N, seq_len + 1).
      weights: 0 or 1, (N, seq_len), of the target after each input.
      byte_lengths: int (vocab_size,), how many bytes of text each id spells.
      eos_id: the id in front of each conversation, which fills up records too.

    Raises:
      OSError: the file cannot be written, for example because the disk is full.
      ValueError: an id is not in the vocabulary, or a weight is neither 0 nor 1.
    """
    require_ids_below(len(byte_lengths), records)
    if not set(np.unique(weights).tolist()) <= {0, 1}:
        raise ValueError(f"weights must be 0 or 1, received up to {weights.max()}")
    stored = np.ascontiguousarray(records, id_dtype(len(byte_lengths)))
    with shard_stream(path) as stream:
        for ids, of_targets in zip(stored, weights.astype(np.uint8), strict=True):
            stream.write(weighted_frame(ids.tobytes(), of_targets.tobytes()))
    return Shard(
        name=storage.base_name(path),
        records=len(records),
        size_bytes=stream.size_bytes,
        crc32c=stream.crc32c,
        target_bytes=weighted_bytes(records, weights, byte_lengths),
        documents=count_conversations(records, eos_id),
        weighted_targets=int(weights.sum(dtype=np.int64)),
    )


def weighted_bytes(records: np.ndarray, weights: np.ndarray, byte_lengths: np.ndarray) -> int:
    """Returns the UTF-8 size of the text that the targets spell whose weight is 1."""
    return int((byte_lengths[records[:, 1:]] * weights).sum(dtype=np.int64))


def count_conversations(records: np.ndarray, eos_id: int) -> int:
    """Returns how many conversations begin in records, integers (N, seq_len + 1).

    EOS also fills up a record behind its last conversation, where another EOS or nothing follows it.
    """
    return int(np.count_nonzero(begin_conversations(records, eos_id)))


def begin_conversations(records: np.ndarray, eos_id: int) -> np.ndarray:
    """Returns at which of their inputs conversations begin in records (..., seq_len + 1), bool (..., seq_len)."""
    return (records[..., :-1] == eos_id) & (records[..., 1:] != eos_id)
