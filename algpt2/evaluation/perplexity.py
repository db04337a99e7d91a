"""Zero-shot perplexity of a text under a stated protocol."""

import dataclasses
import io
from typing import Any

import numpy as np

from algpt2.data.tokenizer import Tokenizer
from algpt2.errors import UserError
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.scores import bits_per_byte, perplexity


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a text file becomes the tokens that are scored.

    Attributes:
      name: what the command line calls it.
      description: the protocol in words, which stands beside every result.
      joins_lines: whether lines are joined by two line ends, as Hugging Face joins the rows of the data set.
      starts_with_eos: whether EOS stands in front of the text, so that its first token is scored too.
    """

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


def prepare_text(text: str, protocol: Protocol) -> str:
    """Returns the text that a protocol scores."""
    if not protocol.joins_lines:
        return text
    return "\n\n".join(line if line.strip() else "" for line in io.StringIO(text))


def evaluate_text(scorer: Scorer, tokenizer: Tokenizer, text: str, protocol: Protocol, stride: int) -> dict[str, Any]:
    """Returns perplexities per token and per word and bits per byte, the counts behind each, and the protocol.

    Args:
      scorer: of the model.
      tokenizer: the one that the model was trained with.
      text: of the file, as it is.
      protocol: one of `PROTOCOLS`.
      stride: positions from one window's start to the next, in [1, seq_len].

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
    total_nats, scored_tokens = scorer.score(ids, stride)
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
        "window": scorer.model.config.seq_len,
        "stride": stride,
    }
