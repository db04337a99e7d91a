"""The documents of a split in their shuffled order, any part of which can be read: as a stream, or one by one."""

from collections.abc import Iterator

import numpy as np

from algpt2.preparation.sorted_documents import Documents, MergedFiles


class TokenStream:
    """The stream EOS, document, EOS, document, ... of the documents in some files.

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


class DocumentStream:
    """The documents in some files, one by one.

    Attributes:
      length: how many there are.
    """

    def __init__(self, files: MergedFiles, bin_documents: np.ndarray, eos_id: int):
        """Takes the files, how many documents each of their bins gives, int64 (bins,), and the id of EOS."""
        self._files = files
        self._eos_id = eos_id
        self._bin_starts = np.concatenate([[0], np.cumsum(bin_documents)])
        self.length = int(self._bin_starts[-1])

    def read(self, first: int, end: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the documents from number `first` to before `end`, of one bin at most at a time.

        Of each it yields their lengths, EOS counted, int64 (N,), and their ids, with an EOS in front of each.
        """
        first_bin = int(np.searchsorted(self._bin_starts, first, side="right")) - 1
        end_bin = int(np.searchsorted(self._bin_starts, end, side="left"))
        start = int(self._bin_starts[first_bin])
        for documents in self._files.bins(first_bin, end_bin):
            of_bin = documents.part(max(0, first - start), max(0, end - start))
            yield of_bin.lengths.astype(np.int64) + 1, with_eos(of_bin, self._eos_id)
            start += len(documents.lengths)


def with_eos(documents: Documents, eos_id: int) -> np.ndarray:
    """Returns the ids of documents, one after the other, with an EOS in front of each."""
    starts = np.cumsum(documents.lengths, dtype=np.int64) - documents.lengths
    return np.insert(documents.ids, starts, eos_id)
