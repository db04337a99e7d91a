"""Writes a shard: whole or not at all, with its checksum taken on the way."""

from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np

from algpt2 import storage
from algpt2.records.manifest import Shard
from algpt2.records.record_bytes import frames, id_dtype

MOST_BLOCK_IDS = 1 << 18


def write_shard(path: str, blocks: Iterable[np.ndarray], byte_lengths: np.ndarray) -> Shard:
    """Writes blocks of records to one TFRecord file, whole or not at all, and returns its entry.

    Args:
      path: where the file goes.
      blocks: integers, each (N, seq_len + 1), of one seq_len.
      byte_lengths: int (vocab_size,), how many bytes of text each id spells.

    Raises:
      OSError: the file cannot be written, for example because the disk is full.
      ValueError: an id is not in the vocabulary, so that it would be stored as another one.
    """
    count, target_bytes, documents, size_bytes, checksum = 0, 0, 0, 0, google_crc32c.Checksum()
    with storage.writing(path) as local_file, open(local_file, "wb") as stream:
        for block in _bounded(blocks):
            _require_ids_below(len(byte_lengths), block)
            data = frames(block, id_dtype(len(byte_lengths))).tobytes()
            stream.write(data)
            checksum.update(data)
            count += len(block)
            size_bytes += len(data)
            target_bytes += int(byte_lengths[block[:, 1:]].sum())
            documents += count_documents(block, len(byte_lengths) - 1)
    return Shard(storage.base_name(path), count, size_bytes, checksum.digest().hex(), target_bytes, documents)


def _bounded(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the same records in blocks of bounded size, because several copies of one are made."""
    for block in blocks:
        size = max(1, MOST_BLOCK_IDS // block.shape[1])
        yield from (block[first : first + size] for first in range(0, len(block), size))


def count_documents(records: np.ndarray, eos_id: int) -> int:
    """Returns how many documents begin in records, integers (N, seq_len + 1); the last id is the next record's too."""
    return int(np.count_nonzero(records[:, :-1] == eos_id))


def _require_ids_below(vocab_size: int, ids: np.ndarray) -> None:
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}, received {ids.min()} to {ids.max()}")
