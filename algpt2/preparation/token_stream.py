"""The stream EOS, document, EOS, document, ... of a split in its shuffled order, any part of which can be read."""

from collections.abc import Iterator, Sequence

import numpy as np

from algpt2.preparation.sorted_documents import Documents, SortedFile, merged_bins


class TokenStream:
    """The stream of all documents in some files.

    Attributes:
      length: how many ids it has, EOS included.
    """

    def __init__(self, files: Sequence[SortedFile], eos_id: int):
        self._files = files
        self._eos_id = eos_id
        sizes = sum(file.tokens + file.documents for file in files)
        self._bin_starts = np.concatenate([[0], np.cumsum(sizes)])
        self.length = int(self._bin_starts[-1])

    def read(self, first: int, end: int) -> Iterator[np.ndarray]:
        """Yields the ids from place `first` to before place `end`, in pieces of one bin at most."""
        first_bin = int(np.searchsorted(self._bin_starts, first, side="right")) - 1
        end_bin = int(np.searchsorted(self._bin_starts, end, side="left"))
        start = int(self._bin_starts[first_bin])
        for documents in merged_bins(self._files, first_bin, end_bin):
            ids = with_eos(documents, self._eos_id)
            yield ids[max(0, first - start) : max(0, end - start)]
            start += len(ids)


def with_eos(documents: Documents, eos_id: int) -> np.ndarray:
    """Returns the ids of documents, one after the other, with an EOS in front of each."""
    starts = np.cumsum(documents.lengths, dtype=np.int64) - documents.lengths
    return np.insert(documents.ids, starts, eos_id)
