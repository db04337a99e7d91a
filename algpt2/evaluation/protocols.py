"""The protocols under which WikiText is scored: what each reads, how far its windows are apart, what it divides by."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from algpt2.evaluation import published, wikitext
from algpt2.evaluation.published import Baseline
from algpt2.evaluation.scores import bits_per_byte, perplexity
from algpt2.evaluation.windows import Window, rolling_windows, windows

OVERLAP_STRIDE = 512


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a model reads of a file. Protocols of the same reading and stride share their forward passes.

    Attributes:
      documents: from the file's text to the texts that are scored one by one, each in windows of its own.
      starts_with_eos: whether EOS stands in front of each, so that its first token is scored too.
      windows: from ids, seq_len and stride to windows in which each id but the first is scored once.
    """

    documents: Callable[[str], list[str]]
    starts_with_eos: bool
    windows: Callable[[np.ndarray, int, int], Iterator[Window]] = windows


@dataclasses.dataclass(frozen=True)
class ReadingScore:
    """What the passes over a reading gave, beside what it is divided by.

    Attributes:
      text: of the file, as it is.
      documents: that were scored.
      nats: negative log-likelihood of all targets together, each once.
      tokens: how many those are.
      scored_bytes: that they spell.
      loop_nats: what Hugging Face's documented loop sums up of the same passes.
      loop_tokens: what it divides that by.
    """

    text: str
    documents: list[str]
    nats: float
    tokens: int
    scored_bytes: int
    loop_nats: float
    loop_tokens: int


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a text file becomes a figure.

    Attributes:
      name: what the command line calls it.
      description: the protocol in words, which stands beside every result.
      reading: what is scored.
      figures: from what the passes gave to the figures, and the counts behind them.
      figure: the name of the one among them that is compared.
      published: that figure of other models.
      default_stride: from seq_len to the positions between windows where the user names none.
      has_own_stride: whether the stride is part of the protocol, so that the user cannot name one.
      needs_articles: whether the file must have WikiText's headings.
    """

    name: str
    description: str
    reading: Reading
    figures: Callable[[ReadingScore], dict[str, Any]]
    figure: str
    published: tuple[Baseline, ...] = ()
    default_stride: Callable[[int], int] = lambda seq_len: seq_len
    has_own_stride: bool = False
    needs_articles: bool = False


def overlapping(seq_len: int) -> int:
    """Returns 512, the stride of Hugging Face's documentation, or half a window where that is no longer than 512."""
    return OVERLAP_STRIDE if seq_len > OVERLAP_STRIDE else max(1, seq_len // 2)


def token_figures(result: ReadingScore) -> dict[str, Any]:
    """Returns perplexity for each token and word, and bits per byte of what the scored tokens spell."""
    nats, tokens = result.nats, result.tokens
    words = len(result.text.split())
    return {
        "token_perplexity": perplexity(nats, tokens),
        "word_perplexity": perplexity(nats, words),
        "bits_per_byte": bits_per_byte(nats, result.scored_bytes),
        "total_nats": nats,
        "scored_tokens": tokens,
        "words": words,
        "scored_bytes": result.scored_bytes,
    }


def loop_figures(result: ReadingScore) -> dict[str, Any]:
    """Returns what the documented loop prints: `total_nats` is its weighted sum, `scored_tokens` what it divides by."""
    nats, tokens = result.loop_nats, result.loop_tokens
    return {"token_perplexity": perplexity(nats, tokens), "total_nats": nats, "scored_tokens": tokens}


def harness_figures(result: ReadingScore) -> dict[str, Any]:
    """Returns lm-evaluation-harness's figures: nats of detokenized articles over words and bytes of the originals."""
    nats, tokens = result.nats, result.tokens
    originals = wikitext.articles(result.text)
    words = sum(map(wikitext.harness_words, originals))
    original_bytes = sum(len(article.encode("utf-8")) for article in originals)
    return {
        "word_perplexity": perplexity(nats, words),
        "byte_perplexity": perplexity(nats, original_bytes),
        "bits_per_byte": bits_per_byte(nats, original_bytes),
        "token_perplexity": perplexity(nats, tokens),
        "total_nats": nats,
        "scored_tokens": tokens,
        "articles": len(originals),
        "words": words,
        "original_bytes": original_bytes,
    }


def megatron_figures(result: ReadingScore) -> dict[str, Any]:
    """Returns Megatron-LM's perplexity and adjusted perplexity, without its limit of e^20."""
    nats, tokens = result.nats, result.tokens
    original_tokens = wikitext.megatron_tokens(result.text)
    return {
        "adjusted_perplexity": perplexity(nats, max(original_tokens - 1, 1)),
        "token_perplexity": perplexity(nats, tokens),
        "total_nats": nats,
        "scored_tokens": tokens,
        "original_tokens": original_tokens,
    }


def paper_figures(result: ReadingScore) -> dict[str, Any]:
    """Returns perplexity for each token of the word-level data set, and for each word alone."""
    nats, tokens = result.nats, result.tokens
    original_tokens, words = wikitext.words_and_line_ends(result.text), len(result.text.split())
    return {
        "original_token_perplexity": perplexity(nats, original_tokens),
        "word_perplexity": perplexity(nats, words),
        "total_nats": nats,
        "scored_tokens": tokens,
        "original_tokens": original_tokens,
        "words": words,
    }


ROWS = Reading(lambda text: [wikitext.joined_rows(text)], starts_with_eos=False)
ARTICLES = Reading(
    lambda text: [wikitext.detokenized(article) for article in wikitext.articles(text)],
    starts_with_eos=True,
    windows=rolling_windows,
)
DETOKENIZED = Reading(lambda text: [wikitext.detokenized(text)], starts_with_eos=False)
RAW = Reading(lambda text: [text], starts_with_eos=True)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "hf",
            "Hugging Face documentation: lines, a blank one empty and the others with their line end, joined by "
            "two line ends; no token in front, so the first token is context only, and every other is scored once",
            ROWS,
            token_figures,
            "token_perplexity",
            published.WIKITEXT_HF,
        ),
        Protocol(
            "hf-loop",
            "The same text and passes by the loop of Hugging Face's documentation to the letter: it never scores the "
            "first token of a window, and weighs each window's mean loss by its new tokens less one",
            ROWS,
            loop_figures,
            "token_perplexity",
            published.WIKITEXT_HF,
        ),
        Protocol(
            "hf-overlap",
            "The text of hf in windows that start 512 tokens apart, or half a window where that is no longer than "
            "512: each later token sees the window's other part before it, and is scored once",
            ROWS,
            token_figures,
            "token_perplexity",
            published.WIKITEXT_HF_OVERLAP,
            default_stride=overlapping,
            has_own_stride=True,
        ),
        Protocol(
            "hf-overlap-loop",
            "The text and passes of hf-overlap by the documented loop: it scores each token but the first once, and "
            "still weighs each window's mean loss by its new tokens less one",
            ROWS,
            loop_figures,
            "token_perplexity",
            published.WIKITEXT_HF_OVERLAP,
            default_stride=overlapping,
            has_own_stride=True,
        ),
        Protocol(
            "harness",
            "lm-evaluation-harness's task wikitext: each article detokenized, behind EOS, in windows of one token of "
            "context and a full last one; words and bytes are those of the original articles",
            ARTICLES,
            harness_figures,
            "word_perplexity",
            published.WIKITEXT_HARNESS,
            has_own_stride=True,
            needs_articles=True,
        ),
        Protocol(
            "megatron",
            "Megatron-LM's task WIKITEXT103: the whole file detokenized, the first token context only, the nats over "
            "the original tokens less one; its own --overlapping-eval is 32 by default, which is --stride 32 here",
            DETOKENIZED,
            megatron_figures,
            "adjusted_perplexity",
            published.WIKITEXT_MEGATRON,
            needs_articles=True,
        ),
        Protocol(
            "gpt2-paper",
            "The GPT-2 paper's denominators, words and line ends or words alone, under Megatron-LM's detokenizer: the "
            "paper's own and its windows are not published, so this is no reproduction of its figures",
            DETOKENIZED,
            paper_figures,
            "original_token_perplexity",
            published.WIKITEXT_PAPER,
            needs_articles=True,
        ),
        Protocol(
            "raw",
            "the file's text as it is, with EOS in front, as in training; every token of the text is scored",
            RAW,
            token_figures,
            "bits_per_byte",
        ),
    )
}
