"""Packing as it is easiest to believe: a document after the other, for comparison with the fast way."""

import numpy as np


class Packer:
    """Cuts records from the stream EOS, document, EOS, document, ..., of which it keeps the unfinished record.

    EOS stands once in front of every document and nowhere else. The next record starts at the last id of the one
    before, so each id but the first is a target once. What is left at the end is not a record (`record_count`).
    """

    def __init__(self, seq_len: int, eos_id: int):
        self._seq_len = seq_len
        self._eos_id = eos_id
        self._record = np.empty(seq_len + 1, dtype=np.int32)
        self._filled = 0

    def add(self, ids) -> list[np.ndarray]:
        """Appends one document's ids, without EOS, and returns the records it completes."""
        document = np.asarray(ids, dtype=np.int32)
        return [record for piece in ([self._eos_id], document) for record in self._append(np.asarray(piece))]

    def _append(self, ids: np.ndarray) -> list[np.ndarray]:
        records = []
        while len(ids) > 0:
            taken = min(self._seq_len + 1 - self._filled, len(ids))
            self._record[self._filled : self._filled + taken] = ids[:taken]
            self._filled += taken
            ids = ids[taken:]  # a view: a long document is not copied again and again
            if self._filled == self._seq_len + 1:
                records.append(self._record.copy())
                self._record[0] = self._record[-1]
                self._filled = 1
        return records
