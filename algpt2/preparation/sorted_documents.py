"""Files of encoded documents, sorted by their order keys, of which any range of keys can be read by itself.

The keys are cut into bins by their first bits. A file of a piece of the input begins with an index: at which document
and at which id each bin begins. So a shard's writer reads from each of these files the few bins that it needs, and
merges them: a bin of all files is sorted in memory, and bins follow one another.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from algpt2 import storage
from algpt2.preparation.document_keys import KEY_BYTES, sorting

_INDEX_DTYPE = np.dtype("<u8")
_LENGTH_DTYPE = np.dtype("<u4")
DOCUMENTS_AT_ONCE = 1024


@dataclasses.dataclass(frozen=True)
class Documents:
    """Encoded documents.

    Attributes:
      keys: uint64 (N, 2), as of `key_array`.
      lengths: uint32 (N,), how many ids each has.
      ids: of all, one after the other, without EOS.
    """

    keys: np.ndarray
    lengths: np.ndarray
    ids: np.ndarray

    def without_copies(self) -> "Documents":
        """Returns the first of those that have one key, and so one text; they must be sorted."""
        is_first = np.ones(len(self.keys), bool)
        is_first[1:] = (self.keys[1:] != self.keys[:-1]).any(axis=1)
        return Documents(self.keys[is_first], self.lengths[is_first], self.ids[np.repeat(is_first, self.lengths)])

    @classmethod
    def sorted_of(cls, parts: Sequence["Documents"]) -> "Documents":
        """Returns the documents of several in the order of their keys; there must be one of them at least."""
        ordered = _Ordered(parts)
        ids = np.empty(sum(len(one.ids) for one in parts), parts[0].ids.dtype)
        end = 0
        for some in ordered.ids():
            ids[end : end + len(some)] = some
            end += len(some)
        return cls(ordered.keys, ordered.lengths, ids)


class _Ordered:
    """The documents of several parts in the order of their keys.

    Their ids come a thousand documents at a time, so that whoever writes them needs no second copy of all ids.

    Attributes:
      keys, lengths: as those of `Documents`.
    """

    def __init__(self, parts: Sequence[Documents]):
        self._parts = parts
        lengths = np.concatenate([one.lengths for one in parts])
        keys = np.concatenate([one.keys for one in parts])
        self._order = sorting(keys)
        self._part_of = np.repeat(np.arange(len(parts)), [len(one.lengths) for one in parts])
        self._ends = np.concatenate([np.cumsum(one.lengths, dtype=np.int64) for one in parts])
        self._starts = self._ends - lengths
        self.keys, self.lengths = keys[self._order], lengths[self._order]

    def ids(self) -> Iterator[np.ndarray]:
        """Yields the ids of some documents at a time."""
        for first in range(0, len(self._order), DOCUMENTS_AT_ONCE):
            places = self._order[first : first + DOCUMENTS_AT_ONCE]
            bounds = zip(*(array[places].tolist() for array in (self._part_of, self._starts, self._ends)), strict=True)
            yield np.concatenate([self._parts[part].ids[start:end] for part, start, end in bounds])


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the files of one preparation are made: 2^bin_bits bins, and the type of an id."""

    bin_bits: int
    dtype: np.dtype

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return 1 << self.bin_bits

    def bin_starts(self, keys: np.ndarray) -> np.ndarray:
        """Returns at which of some sorted keys each bin begins, and the last one ends: int64 (bins + 1,)."""
        numbers = keys[:, 0] >> np.uint64(64 - self.bin_bits) if self.bin_bits else np.zeros(len(keys), np.uint64)
        return np.searchsorted(numbers, np.arange(self.bins + 1, dtype=np.uint64))


def write_sorted(path: str, parts: Sequence[Documents], layout: Layout) -> None:
    """Writes a file of documents, whole or not at all; they are sorted here, and there must be one part at least.

    Raises:
      OSError: the file cannot be written, for example because the disk is full.
    """
    ordered = _Ordered(parts)
    starts = layout.bin_starts(ordered.keys)
    id_starts = np.concatenate([[0], np.cumsum(ordered.lengths, dtype=np.int64)])[starts]
    with storage.writing(path) as local_file, open(local_file, "wb") as stream:
        for array, dtype in (
            (starts, _INDEX_DTYPE),
            (id_starts, _INDEX_DTYPE),
            (ordered.keys, _INDEX_DTYPE),
            (ordered.lengths, _LENGTH_DTYPE),
        ):
            stream.write(np.ascontiguousarray(array, dtype).data)
        for ids in ordered.ids():
            stream.write(np.ascontiguousarray(ids, layout.dtype).data)


class SortedFile:
    """One file that `write_sorted` wrote, on this machine.

    It is open while something of it is read, and nothing of it is kept, because there may be thousands of them.
    """

    def __init__(self, path: str, layout: Layout):
        self._path = path
        self._layout = layout

    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns how many documents and how many ids each bin has, both int64 (bins,)."""
        with open(self._path, "rb") as stream:
            index = _read(stream, 0, 2 * (self._layout.bins + 1), _INDEX_DTYPE).astype(np.int64)
        documents, ids = np.diff(index.reshape(2, -1))
        return documents, ids

    def read_bin(self, number: int) -> Documents:
        """Returns the documents of a bin, in the order of their keys."""
        index_bytes, item_bytes = (self._layout.bins + 1) * _INDEX_DTYPE.itemsize, self._layout.dtype.itemsize
        with open(self._path, "rb") as stream:
            first, end = _read(stream, number * _INDEX_DTYPE.itemsize, 2, _INDEX_DTYPE).tolist()
            first_id, end_id = _read(stream, index_bytes + number * _INDEX_DTYPE.itemsize, 2, _INDEX_DTYPE).tolist()
            (count,) = _read(stream, index_bytes - _INDEX_DTYPE.itemsize, 1, _INDEX_DTYPE).tolist()
            lengths_at = 2 * index_bytes + count * KEY_BYTES
            ids_at = lengths_at + count * _LENGTH_DTYPE.itemsize
            keys = _read(stream, 2 * index_bytes + first * KEY_BYTES, 2 * (end - first), _INDEX_DTYPE)
            lengths = _read(stream, lengths_at + first * _LENGTH_DTYPE.itemsize, end - first, _LENGTH_DTYPE)
            ids = _read(stream, ids_at + first_id * item_bytes, end_id - first_id, self._layout.dtype)
        return Documents(keys.reshape(-1, 2), lengths, ids)


def _read(stream: BinaryIO, offset: int, count: int, dtype: np.dtype) -> np.ndarray:
    stream.seek(offset)
    array = np.empty(count, dtype)
    if stream.readinto(array.view(np.uint8).data) < array.nbytes:
        raise ValueError(f"{stream.name} is cut short")
    return array


class MergedFiles:
    """The documents of several sorted files, bin by bin in the order of their keys, with or without copies."""

    def __init__(self, files: Sequence[SortedFile], deduplicate: bool = False):
        self._files = files
        self._deduplicate = deduplicate

    def bins(self, first: int, end: int) -> Iterator[Documents]:
        """Yields the documents of each bin from `first` to before `end`."""
        for number in range(first, end):
            documents = Documents.sorted_of([file.read_bin(number) for file in self._files])
            yield documents.without_copies() if self._deduplicate else documents

    def stored_sizes(self) -> np.ndarray:
        """Returns how many ids each bin has, copies included, and with an EOS for each document: int64 (bins,)."""
        return sum(sum(file.sizes()) for file in self._files)
