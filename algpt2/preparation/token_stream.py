"""The stream EOS, document, EOS, document, ... of a split in its shuffled order, any part of which can be read."""

from collections.abc import Iterable, Iterator, Sequence

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


def record_count(stream_length: int, seq_len: int) -> int:
    """Returns how many records a stream of this many ids, EOS included, fills."""
    return max(0, stream_length - 1) // seq_len


def record_blocks(ids: Iterable[np.ndarray], seq_len: int) -> Iterator[np.ndarray]:
    """Yields records, in blocks (N, seq_len + 1), of pieces of a stream that begin with the first record's first id.

    The next record starts at the last id of the one before, so each id but the first is a target once. What is left at
    the end is not a record.
    """
    rest = np.empty(0, np.int64)
    for piece in ids:
        rest = np.concatenate([rest, piece]) if len(rest) else piece
        count = record_count(len(rest), seq_len)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(rest[: count * seq_len + 1], seq_len + 1)
            yield windows[::seq_len]
            rest = rest[count * seq_len :]
