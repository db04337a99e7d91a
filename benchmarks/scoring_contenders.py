"""Two ways to score a text under GPT-2 that are timed: ours, and the loop of Hugging Face's documentation in PyTorch.

Each function takes a `Text` and returns one that scores its first windows and gives their nats per token. Each runs in
a process of its own and imports only its own libraries.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Score = Callable[[int], float]


class Text(NamedTuple):
    """What is scored.

    Attributes:
      checkpoint: the folder of a GPT-2, which both load.
      ids: int32 (N,).
      stride: positions from one window's start to the next.
      batch_size: windows of one of our passes; the documented loop takes one at a time.
    """

    checkpoint: str
    ids: np.ndarray
    stride: int
    batch_size: int


def ours(text: Text) -> Score:
    """Scores by `Scorer`, compiled by XLA."""
    from algpt2.checkpoints.save_load import load_model
    from algpt2.evaluation.scorer import Scorer
    from algpt2.evaluation.windows import windows

    model = load_model(text.checkpoint)
    scorer = Scorer(model, text.batch_size)

    def score(n_windows: int) -> float:
        first = itertools.islice(windows(text.ids, model.config.seq_len, text.stride), n_windows)
        scores = list(scorer.score_windows(first))
        return sum(score.nats for score in scores) / sum(score.tokens for score in scores)

    return score


def documented_loop(text: Text) -> Score:
    """Scores as "Perplexity of fixed-length models" does: a window at a time, labels of -100 where nothing counts.

    Of each window it scores one target less than ours, because transformers shifts labels within the window.
    """
    import torch
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(text.checkpoint).eval()
    ids = torch.from_numpy(text.ids.astype(np.int64))[None]
    length = model.config.n_positions

    def score(n_windows: int) -> float:
        total_nats, tokens, scored_until = 0.0, 0, 0
        for start in itertools.islice(range(0, len(text.ids), text.stride), n_windows):
            end = min(start + length, len(text.ids))
            labels = ids[:, start:end].clone()
            labels[:, : scored_until - start] = -100
            with torch.no_grad():
                loss = model(ids[:, start:end], labels=labels).loss
            n_scored = int((labels[:, 1:] != -100).sum())
            total_nats += float(loss) * n_scored
            tokens += n_scored
            scored_until = end
        return total_nats / tokens

    return score


CONTENDERS: dict[str, Callable[[Text], Score]] = {"ours": ours, "documented_loop": documented_loop}
