"""The likelihood of texts that continue other texts, of which every question with given answers is made."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from algpt2.errors import UserError
from algpt2.evaluation.scorer import Scorer, WindowScore
from algpt2.evaluation.windows import continuation_window
from algpt2.progress import progress_bar
from algpt2.text.tokenizer import Tokenizer

SHORTEST_WINDOW = 16


class Continuation(NamedTuple):
    """Token ids that are scored, and those before them; both have at least one."""

    context_ids: tuple[int, ...]
    ids: tuple[int, ...]

    @property
    def n_inputs(self) -> int:
        """How many positions the model needs to score it: all tokens but the last are inputs."""
        return len(self.context_ids) + len(self.ids) - 1


def encode_together(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
    """Returns pairs of (context, continuation) as ids, cut as lm-evaluation-harness cuts them (`_encode_pair`).

    White space at the end of a context belongs to the continuation. Then both are encoded as one text, and what is
    behind the tokens of the context alone is the continuation. EOS stands in for a context of which nothing is left.
    """
    contexts = tokenizer.encode_batch([context.rstrip() for context, _ in pairs])
    wholes = tokenizer.encode_batch([context + continuation for context, continuation in pairs])
    return [
        Continuation(tuple(context) or (tokenizer.eos_id,), tuple(whole[len(context) :]))
        for context, whole in zip(contexts, wholes, strict=True)
    ]


def encode_apart(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Continuation]:
    """Returns pairs of (context, continuation) as ids, each text encoded for itself."""
    contexts = tokenizer.encode_batch([context for context, _ in pairs])
    continuations = tokenizer.encode_batch([continuation for _, continuation in pairs])
    return [Continuation(tuple(c), tuple(ids)) for c, ids in zip(contexts, continuations, strict=True)]


@dataclasses.dataclass(frozen=True)
class ContinuationScores:
    """What a model gives to continuations, in order; each array has one element for each.

    Attributes:
      nats: float64, the negative log-likelihood of all tokens of the continuation together.
      tokens: int, how many those are.
      is_greedy: bool, whether each of them is the model's likeliest token.
      is_cut: bool, whether the context lost its first tokens, because the model has too few positions.
    """

    nats: np.ndarray
    tokens: np.ndarray
    is_greedy: np.ndarray
    is_cut: np.ndarray

    def counts(self) -> dict[str, int]:
        """Returns how many tokens were scored, and behind how many contexts that were cut."""
        return {"scored_tokens": int(self.tokens.sum()), "cut_contexts": int(self.is_cut.sum())}


def score_continuations(scorer: Scorer, continuations: Sequence[Continuation]) -> ContinuationScores:
    """Returns the scores of continuations.

    A context that is too long for the model loses its first tokens. Equal ones are scored once, so that equal choices
    tie exactly. Windows have few lengths (`window_length`), each of which is a graph of its own; the longest come
    first, because they need the most memory.

    Raises:
      UserError: `require_scorable` refuses one.
    """
    seq_len = scorer.model.config.seq_len
    groups: dict[int, list[Continuation]] = collections.defaultdict(list)
    for continuation in dict.fromkeys(continuations):
        require_scorable(continuation, seq_len)
        groups[window_length(continuation.n_inputs, seq_len)].append(continuation)
    scores: dict[Continuation, WindowScore] = {}
    with progress_bar("scoring", "text", sum(map(len, groups.values()))) as progress:
        for length, group in sorted(groups.items(), reverse=True):
            windows = (continuation_window(_array(one.context_ids), _array(one.ids), length) for one in group)
            for continuation, score in zip(group, scorer.score_windows(windows), strict=True):
                scores[continuation] = score
                progress.update(1)
    in_order = [scores[continuation] for continuation in continuations]
    return ContinuationScores(
        nats=np.array([score.nats for score in in_order], np.float64),
        tokens=np.array([score.tokens for score in in_order], np.int64),
        is_greedy=np.array([score.is_greedy for score in in_order], bool),
        is_cut=np.array([continuation.n_inputs > seq_len for continuation in continuations], bool),
    )


def window_length(n_inputs: int, seq_len: int) -> int:
    """Returns the least of 16, 24, 32, 48, 64, 96, ... that holds so many inputs, but at most `seq_len`.

    So short texts do not cost a whole window, at most a third of a window is padding once it is longer than 16, and
    a model of 1024 positions has 13 lengths to compile at most.
    """
    length = SHORTEST_WINDOW
    while length < min(n_inputs, seq_len):
        length = length * 3 // 2 if length & (length - 1) == 0 else length * 4 // 3
    return min(length, seq_len)


def _array(ids: tuple[int, ...]) -> np.ndarray:
    return np.array(ids, np.int32)


def require_scorable(continuation: Continuation, seq_len: int) -> None:
    """Raises `UserError` if a continuation has no token, or more than fit into a window of `seq_len` positions."""
    if not 1 <= len(continuation.ids) <= seq_len:
        raise UserError(
            f"what is scored must have from 1 token to the model's seq_len of {seq_len}, and one text has "
            f"{len(continuation.ids)}: leave it out, or take a model with more positions."
        )
