"""Files of encoded documents, sorted by their order keys, of which any range of keys can be read by itself.

The keys are cut into bins by their first bits. A file of a piece of the input begins with an index: at which document
and at which id each bin begins. So a shard's writer reads from each of these files the few bins that it needs, and
merges them: a bin of all files is sorted in memory, and bins follow one another.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np

from algpt2 import storage
from algpt2.preparation.document_keys import KEY_BYTES, sorting

_INDEX_DTYPE = np.dtype("<u8")
_LENGTH_DTYPE = np.dtype("<u4")
MARK_DTYPE = np.dtype([("piece", "<u4"), ("entry", "<u4"), ("copy", "<u2"), ("is_taken", "?")])
MOST_RANGES_OF_BINS = 256


@dataclasses.dataclass(frozen=True)
class Documents:
    """Encoded documents.

    Attributes:
      keys: uint64 (N, 2), as of `key_array`.
      lengths: uint32 (N,), how many ids each has.
      ids: of all, one after the other, without EOS.
      marks: `MARK_DTYPE` (N,): the piece of the input that each was read from, which is known when a file is read; its
        number among the piece's entries; which copy it is, where 0 is the document itself; and whether it is taken. One
        that is not has no ids: it says only that copies of the same text have it in front of them.
    """

    keys: np.ndarray
    lengths: np.ndarray
    ids: np.ndarray
    marks: np.ndarray

    def sorted(self) -> "Documents":
        """Returns them in the order of their keys."""
        order = sorting(self.keys)
        ends = np.cumsum(self.lengths, dtype=np.int64)
        starts = ends - self.lengths
        pieces = [self.ids[starts[place] : ends[place]] for place in order]
        ids = np.concatenate(pieces) if pieces else self.ids
        return Documents(self.keys[order], self.lengths[order], ids, self.marks[order])

    def are_first(self) -> np.ndarray:
        """Returns which are the first of those with one key, and so one text, bool (N,); they must be sorted."""
        are_first = np.ones(len(self.keys), bool)
        are_first[1:] = (self.keys[1:] != self.keys[:-1]).any(axis=1)
        return are_first

    def chosen(self, mask: np.ndarray) -> "Documents":
        """Returns those that a mask, bool (N,), is true for."""
        ids = self.ids[np.repeat(mask, self.lengths)]
        return Documents(self.keys[mask], self.lengths[mask], ids, self.marks[mask])

    @classmethod
    def joined(cls, parts: Sequence["Documents"]) -> "Documents":
        """Returns the documents of several, one after the other; there must be one at least."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(one.arrays() for one in parts), strict=True)))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Returns the arrays, in the order of the attributes."""
        return self.keys, self.lengths, self.ids, self.marks


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the files of one preparation are made: 2^bin_bits bins, and the type of an id."""

    bin_bits: int
    dtype: np.dtype

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return 1 << self.bin_bits

    def ranges(self) -> list[tuple[int, int]]:
        """Returns all bins in at most `MOST_RANGES_OF_BINS` ranges, each from one to before another."""
        step = -(-self.bins // MOST_RANGES_OF_BINS)
        return [(first, min(first + step, self.bins)) for first in range(0, self.bins, step)]

    def bin_starts(self, keys: np.ndarray) -> np.ndarray:
        """Returns at which of some sorted keys each bin begins, and the last one ends: int64 (bins + 1,)."""
        numbers = keys[:, 0] >> np.uint64(64 - self.bin_bits) if self.bin_bits else np.zeros(len(keys), np.uint64)
        return np.searchsorted(numbers, np.arange(self.bins + 1, dtype=np.uint64))


def write_sorted(path: str, documents: Documents, layout: Layout) -> None:
    """Writes a file of documents, whole or not at all; they are sorted here.

    Raises:
      OSError: the file cannot be written, for example because the disk is full.
    """
    documents = documents.sorted()
    starts = layout.bin_starts(documents.keys)
    id_starts = np.concatenate([[0], np.cumsum(documents.lengths, dtype=np.int64)])[starts]
    with storage.writing(path) as local_file, open(local_file, "wb") as stream:
        for array, dtype in (
            (starts, _INDEX_DTYPE),
            (id_starts, _INDEX_DTYPE),
            (documents.keys, _INDEX_DTYPE),
            (documents.lengths, _LENGTH_DTYPE),
            (documents.marks, MARK_DTYPE),
            (documents.ids, layout.dtype),
        ):
            stream.write(np.ascontiguousarray(array, dtype).data)


class SortedFile:
    """One file that `write_sorted` wrote, opened for reading on this machine; a context manager.

    Attributes:
      documents: how many each bin has, int64 (bins,).
      tokens: how many ids each bin has, int64 (bins,).
    """

    def __init__(self, path: str, layout: Layout, piece: int = 0):
        """Takes the file's path, how it is made, and the number of the piece of the input that it was made of."""
        self._path = path
        self._layout = layout
        self._piece = piece
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> "SortedFile":
        self._stream: BinaryIO = self._opened.enter_context(open(self._path, "rb"))
        index = self._read(0, 2 * (self._layout.bins + 1), _INDEX_DTYPE).astype(np.int64)
        self._starts, self._id_starts = index.reshape(2, -1)
        self.documents, self.tokens = np.diff(self._starts), np.diff(self._id_starts)
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def read_bin(self, number: int) -> Documents:
        """Returns the documents of a bin, in the order of their keys."""
        (first, end), (first_id, end_id) = self._starts[number : number + 2], self._id_starts[number : number + 2]
        keys_at = 2 * (self._layout.bins + 1) * _INDEX_DTYPE.itemsize
        lengths_at = keys_at + int(self._starts[-1]) * KEY_BYTES
        marks_at = lengths_at + int(self._starts[-1]) * _LENGTH_DTYPE.itemsize
        ids_at = marks_at + int(self._starts[-1]) * MARK_DTYPE.itemsize
        keys = self._read(keys_at + first * KEY_BYTES, 2 * (end - first), _INDEX_DTYPE)
        marks = self._read(marks_at + first * MARK_DTYPE.itemsize, end - first, MARK_DTYPE).copy()
        marks["piece"] = self._piece
        return Documents(
            keys.reshape(-1, 2),
            self._read(lengths_at + first * _LENGTH_DTYPE.itemsize, end - first, _LENGTH_DTYPE),
            self._read(ids_at + first_id * self._layout.dtype.itemsize, end_id - first_id, self._layout.dtype),
            marks,
        )

    def _read(self, offset: int, count: int, dtype: np.dtype) -> np.ndarray:
        self._stream.seek(int(offset))
        data = self._stream.read(int(count) * dtype.itemsize)
        return np.frombuffer(data, dtype, count=int(count))


class MergedFiles:
    """The documents of several sorted files, bin by bin in the order of their keys, with or without copies."""

    def __init__(self, files: Sequence[SortedFile], deduplicate: bool = False):
        self._files = files
        self._deduplicate = deduplicate

    def bins(self, first: int, end: int) -> Iterator[Documents]:
        """Yields the documents of each bin from `first` to before `end`."""
        for documents in self.stored_bins(first, end):
            if self._deduplicate:
                yield documents.chosen(documents.are_first() & documents.marks["is_taken"])
            else:
                yield documents

    def stored_bins(self, first: int, end: int) -> Iterator[Documents]:
        """Yields all documents of each bin, copies included; those with one key stand in the order of the input."""
        for number in range(first, end):
            yield Documents.joined([file.read_bin(number) for file in self._files]).sorted()

    def stored_sizes(self) -> np.ndarray:
        """Returns how many ids each bin has, copies included, and with an EOS for each document: int64 (bins,)."""
        return sum(file.tokens + file.documents for file in self._files)
