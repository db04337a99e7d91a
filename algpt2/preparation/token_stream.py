"""The stream EOS, document, EOS, document, ... of a split in its shuffled order, any part of which can be read."""

from collections.abc import Iterator

import numpy as np

from algpt2.preparation.sorted_documents import Documents, MergedFiles


class TokenStream:
    """The stream of the documents in some files.

    Attributes:
      length: how many ids it has, EOS included.
    """

    def __init__(self, files: MergedFiles, bin_sizes: np.ndarray, eos_id: int):
        """Takes the files, how many ids each of their bins gives, EOS included, int64 (bins,), and the id of EOS."""
        self._files = files
        self._eos_id = eos_id
        self._bin_starts = np.concatenate([[0], np.cumsum(bin_sizes)])
        self.length = int(self._bin_starts[-1])

    def read(self, first: int, end: int) -> Iterator[np.ndarray]:
        """Yields the ids from place `first` to before place `end`, in pieces of one bin at most."""
        first_bin = int(np.searchsorted(self._bin_starts, first, side="right")) - 1
        end_bin = int(np.searchsorted(self._bin_starts, end, side="left"))
        start = int(self._bin_starts[first_bin])
        for documents in self._files.bins(first_bin, end_bin):
            ids = with_eos(documents, self._eos_id)
            yield ids[max(0, first - start) : max(0, end - start)]
            start += len(ids)


def with_eos(documents: Documents, eos_id: int) -> np.ndarray:
    """Returns the ids of documents, one after the other, with an EOS in front of each."""
    starts = np.cumsum(documents.lengths, dtype=np.int64) - documents.lengths
    return np.insert(documents.ids, starts, eos_id)
