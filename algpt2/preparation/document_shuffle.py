"""A global shuffle of documents in bounded memory, which depends on the set of documents and the seed only.

A document's place is the hash of the seed and its content. Its ids wait in one of many temporary files, chosen by
the first bits of that key, and each file is sorted by key when it is read back; so neither the order of the input
nor the number of files changes the result.
"""

import contextlib
import hashlib
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from algpt2 import interrupts, storage

DEFAULT_BUCKETS = 256
KEY_BYTES = 16
HEADER = struct.Struct(f"<{KEY_BYTES}sQ")
FLUSH_BYTES = 1 << 17


def content_digest(utf8: bytes) -> bytes:
    """Returns 16 bytes that only the same text has, which is given as UTF-8."""
    return hashlib.blake2b(utf8, digest_size=16, person=b"algpt2-document").digest()


class DocumentShuffle:
    """Takes documents' ids in any order and gives them back shuffled. Use it in a `with` block.

    Memory: about 128 KiB a bucket while adding, one bucket (all ids / `buckets`) while reading. Disk: all ids, in
    the folder for temporary files, which the environment variable TMPDIR names.
    """

    def __init__(self, seed: int, dtype: np.dtype, buckets: int = DEFAULT_BUCKETS):
        self._seed = seed
        self._dtype = np.dtype(dtype)
        self._buffers = [bytearray() for _ in range(buckets)]
        self._temporary = contextlib.ExitStack()

    def __enter__(self) -> "DocumentShuffle":
        self._folder = Path(tempfile.mkdtemp(prefix="algpt2-shuffle-"))
        self._temporary.enter_context(interrupts.temporary(str(self._folder)))
        return self

    def __exit__(self, *exception) -> None:
        self._temporary.close()

    def add(self, digest: bytes, ids: np.ndarray) -> None:
        """Keeps one document: its `content_digest` and its ids, of any length."""
        key = self._key(digest)
        bucket = int.from_bytes(key[:8], "big") * len(self._buffers) >> 64
        content = np.asarray(ids, dtype=self._dtype).tobytes()
        self._buffers[bucket] += HEADER.pack(key, len(content)) + content
        if len(self._buffers[bucket]) >= FLUSH_BYTES:
            self._flush(bucket)

    def documents(self) -> Iterator[np.ndarray]:
        """Yields every document's ids, in the shuffled order."""
        for bucket in range(len(self._buffers)):
            self._flush(bucket)
            yield from self._sorted_bucket(self._path(bucket).read_bytes())

    def _key(self, digest: bytes) -> bytes:
        content = f"{self._seed}:".encode() + digest
        return hashlib.blake2b(content, digest_size=KEY_BYTES, person=b"algpt2-shuffle").digest()

    def _sorted_bucket(self, data: bytes) -> Iterator[np.ndarray]:
        entries, offset = [], 0
        while offset < len(data):
            key, size = HEADER.unpack_from(data, offset)
            entries.append((key, offset + HEADER.size, size))
            offset += HEADER.size + size
        for _, start, size in sorted(entries, key=lambda entry: entry[0]):
            yield np.frombuffer(data, self._dtype, count=size // self._dtype.itemsize, offset=start)

    def _flush(self, bucket: int) -> None:
        """Appends and closes, so that no limit on open files bounds the number of buckets."""
        path = self._path(bucket)
        with storage.naming_errors(str(path)), path.open("ab") as stream:
            stream.write(self._buffers[bucket])
        self._buffers[bucket].clear()

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{bucket:05d}"
