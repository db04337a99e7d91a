"""Writes a shard: whole or not at all, with its checksum taken on the way."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import google_crc32c
import numpy as np

from algpt2 import storage
from algpt2.records.record_bytes import frames, id_dtype
from algpt2.records.shard_entry import Shard

MOST_BLOCK_IDS = 1 << 18


class ShardStream:
    """A shard's file that is being written: `size_bytes` so far, and their checksum."""

    def __init__(self, stream: BinaryIO):
        self.size_bytes = 0
        self._stream = stream
        self._checksum = google_crc32c.Checksum()

    @property
    def crc32c(self) -> str:
        """The CRC32C of what is written, in hexadecimal."""
        return self._checksum.digest().hex()

    def write(self, data: bytes) -> None:
        """Writes frames of records."""
        self._stream.write(data)
        self._checksum.update(data)
        self.size_bytes += len(data)


@contextlib.contextmanager
def shard_stream(path: str) -> Iterator[ShardStream]:
    """Yields what a shard is written to; the file appears when the block ends, whole or not at all."""
    with storage.writing(path) as local_file, open(local_file, "wb") as stream:
        yield ShardStream(stream)


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
    count, target_bytes, documents = 0, 0, 0
    with shard_stream(path) as stream:
        for block in _bounded(blocks):
            require_ids_below(len(byte_lengths), block)
            stream.write(frames(block, id_dtype(len(byte_lengths))).tobytes())
            count += len(block)
            target_bytes += int(byte_lengths[block[:, 1:]].sum())
            documents += count_documents(block, len(byte_lengths) - 1)
    return Shard(storage.base_name(path), count, stream.size_bytes, stream.crc32c, target_bytes, documents)


def _bounded(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields the same records in blocks of bounded size, because several copies of one are made."""
    for block in blocks:
        size = max(1, MOST_BLOCK_IDS // block.shape[1])
        yield from (block[first : first + size] for first in range(0, len(block), size))


def count_documents(records: np.ndarray, eos_id: int) -> int:
    """Returns how many documents begin in records, integers (N, seq_len + 1); the last id is the next record's too."""
    return int(np.count_nonzero(records[:, :-1] == eos_id))


def require_ids_below(vocab_size: int, ids: np.ndarray) -> None:
    """Raises `ValueError` unless all ids are in the vocabulary."""
    if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}, received {ids.min()} to {ids.max()}")
