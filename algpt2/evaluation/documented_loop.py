"""Hugging Face's documented loop, as shares of the windows that `windows` makes.

The loop (page "Perplexity of fixed-length models" of transformers 5) starts a window every `stride` ids, marks the ids
that no earlier window held as new, lets the model average its loss over them, and adds that mean times the new ids less
one. The model shifts the labels within the window, so a window's own first id is never scored:

- Where windows do not overlap, the first id of each is new and not scored, and new ids less one is what was averaged.
- Where they overlap, all new ids of a later window are scored, and their mean still weighs one less than they are.

Both read the same ids as the window of `windows` with the same number, whose targets include those of the loop.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class LoopShare(NamedTuple):
    """What the loop takes of one window: the mean over targets `first` to `end`, which it weighs by `weight`."""

    first: int
    end: int
    weight: int

    def nats_of(self, target_nats: np.ndarray) -> float:
        """Returns what is added for a window: its mean times the weight, 0 where that is 0.

        Args:
          target_nats: float (L,), of every target from `first` to `end`.
        """
        if self.weight == 0:
            return 0.0
        return float(target_nats[self.first : self.end].mean(dtype=np.float64)) * self.weight


def loop_shares(n_ids: int, seq_len: int, stride: int) -> Iterator[LoopShare]:
    """Yields the loop's share of each window that `windows` makes of as many ids.

    The loop has one window more where a single id is left for it. That one weighs 0 and is left out here; in the loop
    itself it is the mean of nothing where windows do not overlap, and makes the result NaN.
    """
    seen = 0
    for start in range(0, n_ids - 1, stride):
        end = min(start + seq_len, n_ids)
        yield LoopShare(max(seen - start - 1, 0), end - start - 1, end - seen - 1)
        seen = end
        if end >= n_ids - 1:
            return
