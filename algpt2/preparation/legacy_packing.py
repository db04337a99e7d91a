"""The packing of the original project of 2020, which loses tokens, so that a study can say what that costs.

The rule is that of `make_tfrecords.py` of https://github.com/bilal2vec/lm-training-research-project at commit 487f818,
called as its author's report says: `--use_control_codes --min_seq_len`, a document a file, all in one TFRecord file.
"""

from collections.abc import Sequence

import numpy as np


class LegacyPacker:
    """Cuts each long document by itself, and short ones in pools, of which the remainders are lost.

    A document of more than `seq_len` ids gives a record for each `seq_len` of them; what is left of it is lost. Any
    other waits in a pool, joined to the one before it by EOS. A pool of more than `seq_len` ids is cut in the same way,
    what is left of it is lost, and the next begins empty; so the last one may be lost whole. EOS stands in front of
    every record, so a record that goes on with a long document begins with a false one. Our `seq_len` n is the
    original's `--seq_len` n + 1, which counts that EOS.

    Attributes:
      false_eos: how many records begin with an EOS in mid-document. All of them are of long documents: a pool gives at
        most two records, and the second begins with a document or with the EOS in front of one.

    Example:

    >>> packer = LegacyPacker(seq_len=4, eos_id=0)
    >>> [record.tolist() for record in packer.add([1, 2, 3, 4, 5, 6, 7, 8, 9])]
    [[0, 1, 2, 3, 4], [0, 5, 6, 7, 8]]
    >>> [record.tolist() for ids in ([1, 2], [3, 4, 5]) for record in packer.add(ids)]
    [[0, 1, 2, 0, 3]]
    >>> packer.lost_tokens, packer.false_eos
    (3, 1)
    """

    def __init__(self, seq_len: int, eos_id: int):
        """Makes a packer that has seen no document.

        Args:
          seq_len: target tokens a record.
          eos_id: the id of EOS, which no document has.
        """
        self.false_eos = 0
        self._seq_len = seq_len
        self._eos = np.array([eos_id], dtype=np.int32)
        self._pool = np.empty(0, dtype=np.int32)
        self._lost_tokens = 0

    @property
    def lost_tokens(self) -> int:
        """How many ids of the documents so far stand in no record; EOS is not counted."""
        return self._lost_tokens + self._text_tokens(self._pool)

    def add(self, ids: Sequence[int]) -> list[np.ndarray]:
        """Takes one document's ids, without EOS; returns the records, int32 (seq_len + 1,), that it completes."""
        document = np.asarray(ids, dtype=np.int32)
        if len(document) > self._seq_len:
            records = self._cut(document)
            self.false_eos += len(records) - 1
            return records
        self._pool = np.concatenate([self._pool, self._eos, document] if len(self._pool) else [document])
        if len(self._pool) <= self._seq_len:
            return []
        records = self._cut(self._pool)
        self._pool = self._pool[:0]
        return records

    def finish(self) -> list[np.ndarray]:
        """Returns no records: what is left in the last pool is lost, and `lost_tokens` has counted it."""
        return []

    def _cut(self, ids: np.ndarray) -> list[np.ndarray]:
        """Returns the records of a document or a pool, and counts what is left as lost."""
        ends = range(self._seq_len, len(ids) + 1, self._seq_len)
        self._lost_tokens += self._text_tokens(ids[len(ends) * self._seq_len :])
        return [np.concatenate([self._eos, ids[end - self._seq_len : end]]) for end in ends]

    def _text_tokens(self, ids: np.ndarray) -> int:
        return int(np.count_nonzero(ids != self._eos))
