"""Which documents are nearly equal to another that stays before them, so that they are left out.

Held-out documents come before those of training, and otherwise a hash of the text decides, whatever the seed. So
which documents are left out depends on nothing but the set of documents.
"""

from collections.abc import Sequence

import numpy as np

from algpt2.preparation.document_keys import are_new, digests_of, key_array, order_key
from algpt2.preparation.signature_files import SIGNED_DTYPE, SignatureFile
from algpt2.preparation.sorted_documents import MARK_DTYPE, Documents, Layout, write_sorted

# With how many documents that have a band in common with it, and come first of all, a document is compared.
MOST_COMPARED = 64
PAIRS_AT_ONCE = 1 << 14


class Comparison:
    """Compares documents in files of signatures, those that have one of the bands of a bin in common."""

    def __init__(self, files: Sequence[SignatureFile], threshold: float):
        """Takes the files, and the least estimate of the similarity at which a document is left out."""
        self._files = files
        self._threshold = threshold

    def left_out(self, number: int) -> np.ndarray:
        """Returns the digests, uint64 (N, 2), of documents that are left out because of the bands of a bin.

        A document is left out if one that comes before it is similar, whether or not that is left out for another.
        Where many have a band in common, each is compared with the first `MOST_COMPARED` of them.
        """
        hashes, places = self._members(number)
        digests, is_train = self._read("digest", places), self._read("is_train", places)
        order = np.lexsort((digests[:, 1], digests[:, 0], is_train, hashes))
        order = order[are_new(np.column_stack([hashes, digests])[order])]  # Copies of a text are one document.
        return digests[order[self._are_left_out(hashes[order], places[order])]]

    def _members(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the bands of a bin that several have, uint64 (N,), and whose they are: file and row, int64 (N, 2)."""
        hashes, places = [np.empty(0, np.uint64)], [np.empty((0, 2), np.int64)]
        for file, of_file in enumerate(self._files):
            found, rows = of_file.bands_of_bin(number)
            hashes.append(found)
            places.append(np.column_stack([np.full(len(rows), file), rows]))
        hashes, places = np.concatenate(hashes), np.concatenate(places)
        order = np.argsort(hashes, kind="stable")
        begins = are_new(hashes[order, None])
        are_alone = begins & np.append(begins[1:], True)
        return hashes[order[~are_alone]], places[order[~are_alone]]

    def _are_left_out(self, hashes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Returns which of the members of all bands, sorted by bands and in their order, are left out, bool (N,)."""
        numbers, left_out = np.arange(len(hashes)), np.zeros(len(hashes), bool)
        firsts = np.maximum.accumulate(np.where(are_new(hashes[:, None]), numbers, 0))
        for rank in range(MOST_COMPARED):
            later = np.flatnonzero((numbers - firsts > rank) & ~left_out)
            if not len(later):
                break
            for start in range(0, len(later), PAIRS_AT_ONCE):
                some = later[start : start + PAIRS_AT_ONCE]
                left_out[some] = self._are_similar(places[some], places[firsts[some] + rank])
        return left_out

    def _are_similar(self, some: np.ndarray, others: np.ndarray) -> np.ndarray:
        are_equal = self._read("signature", some) == self._read("signature", others)
        return are_equal.mean(axis=1) >= self._threshold

    def _read(self, field: str, places: np.ndarray) -> np.ndarray:
        """Returns a field of `SIGNED_DTYPE` of the documents at some places."""
        found = np.empty(len(places), SIGNED_DTYPE[field])
        order = np.argsort(places[:, 0], kind="stable")
        begins = np.flatnonzero(are_new(places[order, :1]))
        for some in np.split(order, begins[1:]) if len(order) else ():
            found[some] = self._files[places[some[0], 0]].documents(places[some, 1], field)
        return found


def write_left_out(path: str, digests: Sequence[np.ndarray], seed: int, copies: int, layout: Layout) -> None:
    """Writes a file of documents without ids, whole or not at all: those that are left out, by the keys of all copies.

    Args:
      path: of the file.
      digests: of the documents, uint64 (N, 2) each, with repetitions.
      seed: of the order.
      copies: how many copies of a document there may be.
      layout: of the sorted files.
    """
    found = np.unique(np.concatenate(digests), axis=0)
    keys = key_array([order_key(digest, seed, copy) for digest in digests_of(found) for copy in range(copies)])
    lengths, marks = np.zeros(len(keys), np.uint32), np.zeros(len(keys), MARK_DTYPE)
    write_sorted(path, [Documents(keys, lengths, np.empty(0, layout.dtype), marks)], layout)
