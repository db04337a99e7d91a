"""`Scorer`: the negative log-likelihood that a model gives to the scored targets of windows."""

import dataclasses
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import tensorflow as tf

from algpt2.devices.compilation import graph_function
from algpt2.evaluation.windows import Window, windows
from algpt2.model.gpt import GPT
from algpt2.model.losses import scored_head_nats
from algpt2.model.tensors import Tensor
from algpt2.progress import progress_bar

Item = TypeVar("Item")


class Score(NamedTuple):
    """The negative log-likelihood of all `tokens` scored targets together, in nats."""

    total_nats: float
    tokens: int


class WindowScore(NamedTuple):
    """What a model gives to one window.

    Attributes:
      nats: negative log-likelihood of its scored targets together.
      tokens: how many those are.
      is_greedy: whether none of them has a likelier token in its place, as in the text that temperature 0 makes.
    """

    nats: float
    tokens: int
    is_greedy: bool


class Scorer:
    """Scores windows of token ids under a model, without dropout, on every replica of a strategy.

    Batches have fixed shapes, so its graph is compiled at the first text and serves all later ones; shorter windows and
    texts with fewer windows than a batch have graphs of their own (`rows_of_pass`). Only scored targets go through the
    model's head. Each pass reads the model's parameters anew.

    Example:

    >>> import numpy as np
    >>> import algpt2
    >>> from algpt2.evaluation.scorer import Scorer
    >>> model = algpt2.GPT.from_preset("algpt2-tiny")
    >>> scorer = Scorer(model, batch_size=2)
    >>> scorer.score(np.arange(200), stride=128).tokens
    199
    """

    def __init__(
        self,
        model: GPT,
        batch_size: int,
        jit_compile: bool = True,
        strategy: tf.distribute.Strategy | None = None,
    ):
        """Prepares the graph; nothing is compiled yet.

        Args:
          model: its seq_len is the length of a text's window.
          batch_size: the most windows of that length in a forward pass. It does not change what is scored.
          jit_compile: whether XLA compiles the graph where it can.
          strategy: whose replicas score, the model having been made in its scope; None means the default one.
        """
        self.model = model
        self.batch_size = batch_size
        self.strategy = strategy or tf.distribute.get_strategy()
        self._replica_scores = graph_function(self._scores_of_rows, jit_compile, strategy)
        self._all_scores = tf.function(self._scores_of_replicas, autograph=False)

    def score(self, ids: np.ndarray, stride: int) -> Score:
        """Returns the score of every id but the first, each scored once; nats are summed in float64.

        Args:
          ids: int (N,).
          stride: positions from one window's start to the next, in [1, seq_len]. A smaller one gives tokens more
            context, and takes more passes.

        Raises:
          ValueError: `stride` is not from 1 to seq_len.
        """
        total_nats, tokens = 0.0, 0
        with progress_bar("scoring", "token", max(len(ids) - 1, 0)) as progress:
            for score in self.score_windows(windows(ids, self.model.config.seq_len, stride)):
                total_nats += score.nats
                tokens += score.tokens
                progress.update(score.tokens)
        return Score(total_nats, tokens)

    def score_windows(self, stream: Iterable[Window]) -> Iterator[WindowScore]:
        """Yields the score of each window, in their order, while it takes no more of them than a pass needs.

        Args:
          stream: windows of one length, at most seq_len.
        """
        for window, nats, is_likeliest in self._passes(stream):
            is_greedy = ((is_likeliest == 1) | (window.scored == 0)).all()
            yield WindowScore(float(nats.sum()), int(window.scored.sum()), bool(is_greedy))

    def target_nats(self, stream: Iterable[Window]) -> Iterator[np.ndarray]:
        """Yields the nats of each target of each window, float64 (L,), 0 where it is not scored.

        Args:
          stream: windows of one length, at most seq_len.
        """
        for _, nats, _ in self._passes(stream):
            yield nats

    def _passes(self, stream: Iterable[Window]) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        """Yields each window, the nats of its scored targets, and 1 for each target of which none is likelier."""
        stream = iter(stream)
        first = next(stream, None)
        if first is None:
            return
        most = self._most_rows(len(first.inputs))
        beginning = [first, *itertools.islice(stream, most - 1)]
        rows = rows_of_pass(most, len(beginning), self.strategy.num_replicas_in_sync)
        for some_windows in in_groups(itertools.chain(beginning, stream), rows):
            yield from self._score_pass(some_windows, rows)

    def _most_rows(self, length: int) -> int:
        """Returns how many windows of a length make a pass as large as `batch_size` windows of seq_len positions."""
        return min(self.batch_size * (self.model.config.seq_len // length), sys.maxsize)

    def _score_pass(self, some_windows: list[Window], rows: int) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
        batch = stacked(some_windows, rows)
        arrays = [self._distributed(array) for array in (batch.inputs, batch.targets, batch.scored)]
        # TensorFlow warns of calls that make graphs, and here each length of windows has one of its own.
        self._all_scores.get_concrete_function(*arrays)
        nats, is_likeliest = (part.numpy() for part in self._all_scores(*arrays))
        # The padded rows, which come last, are left out.
        yield from zip(some_windows, nats.astype(np.float64) * batch.scored, is_likeliest, strict=False)

    def _distributed(self, array: np.ndarray) -> tf.distribute.DistributedValues | tf.Tensor:
        """(B, L) -> the rows of each replica."""
        parts = np.split(array, self.strategy.num_replicas_in_sync)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.convert_to_tensor(parts[context.replica_id_in_sync_group])
        )

    def _scores_of_replicas(self, *arrays: tf.distribute.DistributedValues) -> tuple[tf.Tensor, tf.Tensor]:
        return tuple(self.strategy.gather(part, axis=0) for part in self.strategy.run(self._replica_scores, arrays))

    def _scores_of_rows(self, inputs: Tensor, targets: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
        nats, is_likeliest = scored_head_nats(self.model.hidden_states(inputs), self.model.head_table, targets, scored)
        return nats, tf.cast(is_likeliest, tf.int32)  # several workers gather no booleans


def rows_of_pass(most: int, n_windows: int, n_replicas: int = 1) -> int:
    """Returns the rows of a forward pass: `most`, or for each replica the largest power of two that few windows fill.

    So no pass has many more rows than there are windows, and texts of all lengths take but few graphs.

    Args:
      most: rows of a full pass; it is rounded up to a multiple of the replicas, which each take as many rows.
      n_windows: how many there are, at least 1; those beyond `most` do not matter.
      n_replicas: that share the rows.
    """
    of_replica = -(-most // n_replicas)
    if n_windows < most:
        of_replica = 1 << max(0, (n_windows // n_replicas).bit_length() - 1)
    return of_replica * n_replicas


def in_groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yields the items in lists of `size`, of which the last may be shorter."""
    items = iter(items)
    while group := list(itertools.islice(items, size)):
        yield group


def stacked(some_windows: Sequence[Window], rows: int) -> Window:
    """Returns windows stacked to (rows, L), filled up with windows that score nothing."""
    empty = Window.empty(len(some_windows[0].inputs))
    filled = [*some_windows, *[empty] * (rows - len(some_windows))]
    return Window(*(np.stack([getattr(w, field.name) for w in filled]) for field in dataclasses.fields(Window)))
