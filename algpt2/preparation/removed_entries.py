"""Entries of the input that are left out, and why, in small files beside the encoded documents.

An entry is told by the number of its piece and its number in the piece (`entries.py`).
"""

import itertools
from array import array
from collections.abc import Iterator, Sequence

import numpy as np

from algpt2 import storage
from algpt2.text import faults

NGRAM, DUPLICATE, NEAR_DUPLICATE, WEIGHT = "ngram", "duplicate", "near-duplicate", "weight"
REASONS = (*faults.KINDS, NGRAM, DUPLICATE, NEAR_DUPLICATE, WEIGHT)
REMOVED_SUFFIX = ".removed"
BLOCK_ENTRIES = 1 << 12
_DTYPE = np.dtype([("piece", "<u4"), ("entry", "<u4"), ("reason", "u1")])


class RemovedEntries:
    """Collects entries that are left out."""

    def __init__(self) -> None:
        self._pieces, self._entries, self._reasons = array("L"), array("L"), array("B")

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entries: Sequence[int], reason: str, pieces: Sequence[int] | None = None) -> None:
        """Adds entries that are left out for one reason, each with the number of its piece, which is 0 without any."""
        self._entries.extend(entries)
        self._pieces.extend([0] * len(entries) if pieces is None else pieces)
        self._reasons.extend([REASONS.index(reason)] * len(entries))

    def count(self, reason: str) -> int:
        """Returns how many are left out for a reason."""
        return self._reasons.count(REASONS.index(reason))

    def write(self, path: str) -> None:
        """Writes a file of the entries in the order of the input, whole or not at all."""
        removed = np.empty(len(self), _DTYPE)
        removed["piece"], removed["entry"], removed["reason"] = self._pieces, self._entries, self._reasons
        with storage.writing(path) as local_file:
            removed[np.lexsort((removed["entry"], removed["piece"]))].tofile(local_file)


def read_removed(local_file: str, piece: int | None = None) -> Iterator[tuple[int, int, int]]:
    """Yields piece, entry and place in `REASONS` of each entry in a file; `piece` takes the place of what it says."""
    for number in itertools.count():
        block = np.fromfile(local_file, _DTYPE, BLOCK_ENTRIES, offset=number * BLOCK_ENTRIES * _DTYPE.itemsize)
        if not len(block):
            return
        if piece is not None:
            block["piece"] = piece
        yield from block.tolist()
