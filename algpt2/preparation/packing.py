"""The stream of ids cut into records of one length; no token is lost, and none is twice a target."""

from collections.abc import Iterable, Iterator

import numpy as np


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
