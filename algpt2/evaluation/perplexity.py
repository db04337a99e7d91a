"""Zero-shot perplexity of a text under a stated protocol; negative log-likelihood summed in float64."""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from algpt2.data.tokenizer import Tokenizer
from algpt2.devices.compilation import graph_function
from algpt2.errors import UserError
from algpt2.evaluation.scores import bits_per_byte, perplexity
from algpt2.model.gpt import GPT
from algpt2.model.losses import head_nats
from algpt2.progress import progress_bar


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a text file becomes the tokens that are scored. `describe` says it in words, for the result."""

    name: str
    description: str
    joins_lines: bool
    starts_with_eos: bool


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "hf",
            "Hugging Face documentation: lines, a blank one empty and the others with their line end, joined by "
            "two line ends; no token in front, so the first token is context only",
            joins_lines=True,
            starts_with_eos=False,
        ),
        Protocol(
            "raw",
            "the file's text as it is, with EOS in front, as in training; every token of the text is scored",
            joins_lines=False,
            starts_with_eos=True,
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Window:
    """`inputs` and `targets`, int32 (seq_len,), of which `scored`, float32 (seq_len,), has 1 where a target counts."""

    inputs: np.ndarray
    targets: np.ndarray
    scored: np.ndarray


def prepare_text(text: str, protocol: Protocol) -> str:
    """Returns the text that a protocol scores."""
    if not protocol.joins_lines:
        return text
    return "\n\n".join(line if line.strip() else "" for line in io.StringIO(text))


def windows(ids: np.ndarray, seq_len: int, stride: int) -> Iterator[Window]:
    """Yields windows of `seq_len` positions in which each id but the first is scored exactly once.

    The first window scores all its targets; each later one starts `stride` positions further on and scores only the
    targets that no window before it did. A window that runs past the end is filled up with unscored zeros.

    Raises:
      ValueError: `stride` is not from 1 to `seq_len`.
    """
    if not 1 <= stride <= seq_len:
        raise ValueError(f"stride must be from 1 to seq_len = {seq_len}, or tokens are skipped; received {stride}")
    n_targets = len(ids) - 1
    scored_until = 0
    for start in range(0, max(n_targets, 0), stride):
        end = min(start + seq_len, n_targets)
        window = Window(*(np.zeros(seq_len, dtype) for dtype in (np.int32, np.int32, np.float32)))
        window.inputs[: end - start] = ids[start:end]
        window.targets[: end - start] = ids[start + 1 : end + 1]
        window.scored[scored_until - start : end - start] = 1
        yield window
        scored_until = end
        if end == n_targets:
            return


def score_ids(model: GPT, ids: np.ndarray, stride: int, batch_size: int) -> tuple[float, int]:
    """Returns the total nats of every id but the first, each scored once, and their number.

    Args:
      model: its seq_len is the window.
      ids: int (N,).
      stride: positions from one window's start to the next, in [1, seq_len].
      batch_size: windows a forward pass; it does not change the result.
    """
    seq_len = model.config.seq_len

    nats_of = graph_function(lambda inputs, targets: head_nats(model.hidden_states(inputs), model.wte, targets))
    total_nats, n_scored = 0.0, 0
    with progress_bar("scoring", "token", len(ids) - 1) as progress:
        for batch in _batches(windows(ids, seq_len, stride), batch_size, seq_len):
            nats = nats_of(batch.inputs, batch.targets).numpy().astype(np.float64)
            scored = int(batch.scored.sum())
            total_nats += float((nats * batch.scored).sum())
            n_scored += scored
            progress.update(scored)
    return total_nats, n_scored


def evaluate_text(
    model: GPT, tokenizer: Tokenizer, text: str, protocol: Protocol, stride: int, batch_size: int
) -> dict[str, Any]:
    """Returns perplexities per token and per word and bits per byte, the counts behind each, and the protocol.

    Raises:
      UserError: the text leaves nothing to score.
    """
    text = prepare_text(text, protocol)
    ids = np.asarray(tokenizer.encode(text), np.int32)
    if protocol.starts_with_eos:
        ids = np.concatenate([[tokenizer.eos_id], ids]).astype(np.int32)
    words = len(text.split())
    if len(ids) < 2 or not words:
        raise UserError(
            f"a text must have at least one word and one token to score, and under protocol {protocol.name} this one "
            f"has {words} words and {max(len(ids) - 1, 0)} tokens to score: name a longer file."
        )
    total_nats, scored_tokens = score_ids(model, ids, stride, batch_size)
    scored_bytes = int(tokenizer.token_byte_lengths()[ids[1:]].sum())
    return {
        "token_perplexity": perplexity(total_nats, scored_tokens),
        "word_perplexity": perplexity(total_nats, words),
        "bits_per_byte": bits_per_byte(total_nats, scored_bytes),
        "total_nats": total_nats,
        "scored_tokens": scored_tokens,
        "words": words,
        "scored_bytes": scored_bytes,
        "protocol": protocol.name,
        "description": protocol.description,
        "window": model.config.seq_len,
        "stride": stride,
    }


def _batches(stream: Iterator[Window], batch_size: int, seq_len: int) -> Iterator[Window]:
    """Yields windows stacked to (batch_size, seq_len); the last batch is filled up with unscored zeros."""
    empty = Window(*(np.zeros(seq_len, dtype) for dtype in (np.int32, np.int32, np.float32)))
    while batch := [window for _, window in zip(range(batch_size), stream, strict=False)]:
        batch += [empty] * (batch_size - len(batch))
        yield Window(*(np.stack([getattr(w, field.name) for w in batch]) for field in dataclasses.fields(Window)))
