"""Packing in which every record begins with a document, so that no target lacks the beginning of its own text.

The rule follows the best-fit packing of nanochat (https://github.com/karpathy/nanochat): of the documents that wait,
the longest that still fits goes into the record; where none fits, the shortest is cropped, and its rest is lost.
"""

import bisect
import itertools
from collections.abc import Sequence

import numpy as np

WAITING_DOCUMENTS = 1024


class BestFitPacker:
    """Puts whole documents into records of one length, and crops one where no other fits.

    EOS stands in front of every document. A single place that is left at a record's end has the EOS of what would come
    next, which ends the text before it. Of a document that is longer than a record, only the beginning is kept.

    Attributes:
      lost_tokens: how many ids of the documents so far stand in no record, EOS not counted; before `finish`, those of
        the documents that wait are not in it.
      false_eos: 0, because no EOS stands in mid-document.

    Example:

    >>> packer = BestFitPacker(seq_len=5, eos_id=0, waiting_documents=3)
    >>> [record.tolist() for ids in ([1, 1], [2], [3, 3, 3, 3]) for record in packer.add(ids)]
    []
    >>> [record.tolist() for record in packer.add([4, 4, 4])]
    [[0, 3, 3, 3, 3, 0]]
    >>> [record.tolist() for record in packer.finish()], packer.lost_tokens
    ([[0, 4, 4, 4, 0, 2]], 2)
    """

    false_eos = 0

    def __init__(self, seq_len: int, eos_id: int, waiting_documents: int = WAITING_DOCUMENTS):
        """Makes a packer that has seen no document.

        Args:
          seq_len: target tokens a record.
          eos_id: the id of EOS, which no document has.
          waiting_documents: how many wait for a place; with more of them, fewer are cropped.
        """
        self.lost_tokens = 0
        self._record_length = seq_len + 1
        self._eos_id = eos_id
        self._most_waiting = waiting_documents
        # Sorted by length, then by their order: (length, number).
        self._waiting: list[tuple[int, int]] = []
        self._documents: dict[int, np.ndarray] = {}
        self._numbers = itertools.count()
        self._waiting_ids = 0

    def add(self, ids: Sequence[int]) -> list[np.ndarray]:
        """Takes one document's ids, without EOS; returns the records, int32 (seq_len + 1,), that are made then."""
        document, number = np.array(ids[: self._record_length - 1], dtype=np.int32), next(self._numbers)
        self.lost_tokens += len(ids) - len(document)
        self._documents[number] = document
        bisect.insort(self._waiting, (len(document), number))
        self._waiting_ids += len(document) + 1
        records = []
        while len(self._waiting) > self._most_waiting and self._waiting_ids >= self._record_length:
            records.append(self._record())
        return records

    def finish(self) -> list[np.ndarray]:
        """Returns the records that the waiting documents fill; what they do not fill is lost."""
        records = []
        while self._waiting_ids >= self._record_length:
            records.append(self._record())
        self.lost_tokens += sum(length for length, _ in self._waiting)
        self._waiting, self._documents, self._waiting_ids = [], {}, 0
        return records

    def _record(self) -> np.ndarray:
        record = np.full(self._record_length, self._eos_id, dtype=np.int32)
        start = 1
        while start < self._record_length:
            document = self._taken(self._record_length - start)
            record[start : start + len(document)] = document
            start += len(document) + 1
        return record

    def _taken(self, space: int) -> np.ndarray:
        """Takes out the longest document that fits into the space, or as much as fits of the shortest."""
        fitting = bisect.bisect_right(self._waiting, (space, next(self._numbers)))
        length, number = self._waiting.pop(max(0, fitting - 1))
        self.lost_tokens += max(0, length - space)
        self._waiting_ids -= length + 1
        return self._documents.pop(number)[:space]
