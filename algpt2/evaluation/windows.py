"""Windows of token ids: which ids a forward pass reads, and which of its targets count."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from algpt2.errors import UserError, shown


@dataclasses.dataclass(frozen=True)
class Window:
    """One window of a text, or several stacked: each array is (L,) or (B, L), with L at most the model's seq_len.

    Attributes:
      inputs: int32 ids.
      targets: int32, the id after each input.
      scored: float32, 1 where a target counts and 0 where it does not.
    """

    inputs: np.ndarray
    targets: np.ndarray
    scored: np.ndarray

    @classmethod
    def empty(cls, length: int) -> "Window":
        """Returns a window of zeros, which scores nothing."""
        return cls(np.zeros(length, np.int32), np.zeros(length, np.int32), np.zeros(length, np.float32))

    @classmethod
    def of(cls, ids: Sequence[int] | np.ndarray, first_scored: int, length: int) -> "Window":
        """Returns a window of at most `length` + 1 ids, filled up with unscored zeros.

        Args:
          ids: at least one; each but the last is an input, and each but the first a target.
          first_scored: the index in `ids` of the first target that counts, at least 1; those after it count too.
          length: positions of the window.
        """
        window, n_targets = cls.empty(length), len(ids) - 1
        window.inputs[:n_targets] = ids[:-1]
        window.targets[:n_targets] = ids[1:]
        window.scored[first_scored - 1 : n_targets] = 1
        return window


def require_stride(stride: int | None, seq_len: int) -> int:
    """Returns the stride that a command line asks for, `seq_len` where it does not.

    Raises:
      UserError: it is not from 1 to `seq_len`.
    """
    stride = seq_len if stride is None else stride
    if not 1 <= stride <= seq_len:
        raise UserError(f"--stride must be from 1 to the model's seq_len {seq_len}, received {shown(stride)}.")
    return stride


def windows(ids: np.ndarray, seq_len: int, stride: int) -> Iterator[Window]:
    """Yields windows of `seq_len` positions in which each id but the first is scored exactly once.

    The first window scores all its targets. Each later one starts `stride` positions after the one before, and scores
    only the targets that no earlier window did. A window that runs past the end is filled up with unscored zeros.

    Raises:
      ValueError: `stride` is not from 1 to `seq_len`.
    """
    if not 1 <= stride <= seq_len:
        raise ValueError(f"stride must be from 1 to seq_len = {seq_len}, or tokens are skipped; received {stride}")
    n_targets = len(ids) - 1
    scored_until = 0
    for start in range(0, max(n_targets, 0), stride):
        end = min(start + seq_len, n_targets)
        yield Window.of(ids[start : end + 1], scored_until + 1 - start, seq_len)
        scored_until = end
        if end == n_targets:
            return


def rolling_windows(ids: np.ndarray, seq_len: int, stride: int) -> Iterator[Window]:
    """Yields the windows of lm-evaluation-harness's `loglikelihood_rolling`: each id but the first is scored once.

    They follow one another with one token of context each. The last one is full where a window came before it: it
    reads ids again that have been scored, so that its own have more context.

    Raises:
      ValueError: `stride` is not `seq_len`.
    """
    if stride != seq_len:
        raise ValueError(f"these windows are seq_len = {seq_len} apart, received a stride of {stride}")
    n_targets = len(ids) - 1
    for start in range(0, max(n_targets, 0), seq_len):
        end = min(start + seq_len, n_targets)
        first = max(end - seq_len, 0)
        yield Window.of(ids[first : end + 1], start + 1 - first, seq_len)


def continuation_window(context_ids: Sequence[int], continuation_ids: Sequence[int], length: int) -> Window:
    """Returns the window that scores a continuation after its context, which is cut from the left where it is too long.

    Args:
      context_ids: at least one id.
      continuation_ids: at least one id and at most `length`.
      length: positions of the window.
    """
    ids = [*context_ids, *continuation_ids][-(length + 1) :]
    return Window.of(ids, len(ids) - len(continuation_ids), length)
