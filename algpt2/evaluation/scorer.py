"""`Scorer`: the negative log-likelihood that a model gives to token ids, in windows of a stated stride."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from algpt2.devices.compilation import graph_function
from algpt2.model.gpt import GPT
from algpt2.model.losses import head_nats
from algpt2.model.tensors import Tensor
from algpt2.progress import progress_bar


@dataclasses.dataclass(frozen=True)
class Window:
    """One window of a text, or several stacked: each array is (seq_len,) or (batch_size, seq_len).

    Attributes:
      inputs: int32 ids.
      targets: int32, the id after each input.
      scored: float32, 1 where a target counts and 0 where it does not.
    """

    inputs: np.ndarray
    targets: np.ndarray
    scored: np.ndarray

    @classmethod
    def empty(cls, seq_len: int) -> "Window":
        """Returns a window of zeros, which scores nothing."""
        return cls(np.zeros(seq_len, np.int32), np.zeros(seq_len, np.int32), np.zeros(seq_len, np.float32))


class Score(NamedTuple):
    """The negative log-likelihood of all `tokens` scored targets together, in nats."""

    total_nats: float
    tokens: int


class Scorer:
    """Scores token ids under a model, without dropout.

    Windows and batches have fixed shapes, so its graph is compiled at the first text and serves all later ones. Texts
    with fewer windows than a batch have a graph with fewer rows (`rows_of_pass`). Each pass reads the model's
    parameters anew.

    Example:

    >>> import numpy as np
    >>> import algpt2
    >>> from algpt2.evaluation.scorer import Scorer
    >>> model = algpt2.GPT.from_preset("algpt2-tiny")
    >>> scorer = Scorer(model, batch_size=2)
    >>> scorer.score(np.arange(200), stride=128).tokens
    199
    """

    def __init__(self, model: GPT, batch_size: int, jit_compile: bool = True):
        """Prepares the graph; nothing is compiled yet.

        Args:
          model: its seq_len is the length of a window.
          batch_size: the most windows in a forward pass. It does not change what is scored.
          jit_compile: whether XLA compiles the graph where it can.
        """
        self.model = model
        self.batch_size = batch_size
        self._target_nats = graph_function(self._nats_of_batch, jit_compile)

    def score(self, ids: np.ndarray, stride: int) -> Score:
        """Returns the score of every id but the first, each scored once; nats are summed in float64.

        Args:
          ids: int (N,).
          stride: positions from one window's start to the next, in [1, seq_len]. A smaller one gives tokens more
            context, and takes more passes.

        Raises:
          ValueError: `stride` is not from 1 to seq_len.
        """
        seq_len = self.model.config.seq_len
        rows = rows_of_pass(self.batch_size, window_count(len(ids), seq_len, stride))
        total_nats, tokens = 0.0, 0
        with progress_bar("scoring", "token", len(ids) - 1) as progress:
            for batch in batches(windows(ids, seq_len, stride), rows, seq_len):
                nats = self._target_nats(batch.inputs, batch.targets).numpy().astype(np.float64)
                scored = int(batch.scored.sum())
                total_nats += float((nats * batch.scored).sum())
                tokens += scored
                progress.update(scored)
        return Score(total_nats, tokens)

    def _nats_of_batch(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return head_nats(self.model.hidden_states(inputs), self.model.wte, targets)


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
        window = Window.empty(seq_len)
        window.inputs[: end - start] = ids[start:end]
        window.targets[: end - start] = ids[start + 1 : end + 1]
        window.scored[scored_until - start : end - start] = 1
        yield window
        scored_until = end
        if end == n_targets:
            return


def window_count(n_ids: int, seq_len: int, stride: int) -> int:
    """Returns how many windows `windows` yields of so many ids."""
    beyond_the_first = max(0, n_ids - 1 - seq_len)
    return 0 if n_ids < 2 else 1 + -(-beyond_the_first // stride)


def rows_of_pass(batch_size: int, n_windows: int) -> int:
    """Returns the rows of a forward pass: `batch_size`, or the largest power of two windows that a short text fills.

    So no pass has more rows than the text has windows, and texts of all lengths take but few graphs.
    """
    return batch_size if n_windows >= batch_size else 1 << max(0, n_windows.bit_length() - 1)


def batches(stream: Iterator[Window], batch_size: int, seq_len: int) -> Iterator[Window]:
    """Yields windows stacked to (batch_size, seq_len); the last batch is filled up with windows that score nothing."""
    while batch := [window for _, window in zip(range(batch_size), stream, strict=False)]:
        batch += [Window.empty(seq_len)] * (batch_size - len(batch))
        yield Window(*(np.stack([getattr(w, field.name) for w in batch]) for field in dataclasses.fields(Window)))
