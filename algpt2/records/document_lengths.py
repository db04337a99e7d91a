"""How many ids each document of a shard has, in a file beside the shard, so that any of them can be found unread.

`lengths-train-00000-of-00016.bin` has a little-endian uint32 for each record of `train-00000-of-00016.tfrecord`, EOS
counted. Where a record begins follows from the lengths of those before it.
"""

from typing import NamedTuple

import google_crc32c
import numpy as np

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.records.shard_entry import Shard

LENGTH_DTYPE = np.dtype("<u4")


def lengths_path(shard_path: str) -> str:
    """Returns where the lengths of a shard's documents are."""
    stem = storage.base_name(shard_path).removesuffix(".tfrecord")
    return storage.join(storage.parent(shard_path), f"lengths-{stem}.bin")


class ShardFile(NamedTuple):
    """A file that belongs to a shard, as the manifest tells it."""

    name: str
    size_bytes: int
    crc32c: str


def files_of(shard: Shard) -> list[ShardFile]:
    """Returns the files of a shard: itself and, if it is one of documents, that of their lengths."""
    files = [ShardFile(shard.name, shard.size_bytes, shard.crc32c)]
    if shard.lengths_crc32c is not None:
        name = storage.base_name(lengths_path(shard.name))
        files.append(ShardFile(name, shard.records * LENGTH_DTYPE.itemsize, shard.lengths_crc32c))
    return files


def write_lengths(shard_path: str, lengths: np.ndarray) -> str:
    """Writes the lengths of a shard's documents, whole or not at all; returns the file's CRC32C in hexadecimal."""
    data = np.ascontiguousarray(lengths, LENGTH_DTYPE).tobytes()
    storage.write_bytes(lengths_path(shard_path), data)
    return _crc32c(data)


def read_lengths(shard_path: str, shard: Shard) -> np.ndarray:
    """Returns the lengths of a shard's documents, uint32 (records,).

    Raises:
      UserError: the file is missing, or not the one that the manifest names.
    """
    path = lengths_path(shard_path)
    try:
        data = storage.read_bytes(path)
    except FileNotFoundError as error:
        raise missing_lengths(path) from error
    if _crc32c(data) != shard.lengths_crc32c:
        raise UserError(
            f"{path} must have CRC32C {shard.lengths_crc32c} and has {_crc32c(data)}: it is damaged; copy it again."
        )
    return np.frombuffer(data, LENGTH_DTYPE)


def missing_lengths(path: str) -> UserError:
    """Returns what to say where the lengths of a shard's documents are not there."""
    return UserError(f"a shard of documents must have the file of their lengths, and {path} is missing: copy it again.")


def _crc32c(data: bytes) -> str:
    return google_crc32c.Checksum(data).digest().hex()
