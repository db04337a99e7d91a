"""Figures of a text file under protocols, each beside what it was computed from."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from algpt2.errors import UserError
from algpt2.evaluation.documented_loop import LoopShare, loop_shares
from algpt2.evaluation.protocols import Protocol, Reading, ReadingScore
from algpt2.evaluation.published import Baseline
from algpt2.evaluation.scorer import Score, Scorer
from algpt2.evaluation.wikitext import has_articles
from algpt2.evaluation.windows import Window, require_stride
from algpt2.progress import progress_bar
from algpt2.text.tokenizer import Tokenizer


class SharedWindow(NamedTuple):
    """A window, and what Hugging Face's documented loop takes of it."""

    window: Window
    share: LoopShare

    @property
    def scored_by_either(self) -> Window:
        """The window with the targets scored that either counts."""
        scored = self.window.scored.copy()
        scored[self.share.first : self.share.end] = 1
        return dataclasses.replace(self.window, scored=scored)


def evaluate(
    scorer: Scorer, tokenizer: Tokenizer, text: str, protocols: Sequence[Protocol], stride: int | None = None
) -> list[dict[str, Any]]:
    """Returns for each protocol its figures, the counts behind them, and what it is; equal passes are made once.

    Args:
      scorer: of the model.
      tokenizer: the one that the model was trained with.
      text: of the file, as it is.
      protocols: some of `PROTOCOLS`.
      stride: positions from one window's start to the next, in [1, seq_len]; None means each protocol's own.

    Raises:
      UserError: the text or the stride is refused by `check_text` or `check_stride`, or nothing can be scored.
    """
    seq_len = scorer.model.config.seq_len
    check_text(text, protocols)
    check_stride(stride, protocols, seq_len)
    passes: dict[tuple[Reading, int], ReadingScore] = {}
    results = []
    for protocol in protocols:
        own_stride = stride or protocol.default_stride(seq_len)
        key = (protocol.reading, own_stride)
        if key not in passes:
            passes[key] = _score_reading(scorer, tokenizer, text, protocol, own_stride)
        results.append(_result(protocol, passes[key], seq_len, own_stride))
    return results


def evaluate_text(
    scorer: Scorer, tokenizer: Tokenizer, text: str, protocol: Protocol, stride: int | None = None
) -> dict[str, Any]:
    """Returns `evaluate`'s result under one protocol."""
    return evaluate(scorer, tokenizer, text, [protocol], stride)[0]


def check_text(text: str, protocols: Sequence[Protocol]) -> None:
    """Raises `UserError` if a protocol needs WikiText's article headings, and a file's text has none."""
    names = [protocol.name for protocol in protocols if protocol.needs_articles]
    if names and not has_articles(text):
        raise UserError(
            f"a file must have WikiText's article headings, as ' = Title = ', to be scored under --protocol "
            f"{', '.join(names)}, and this one has none: name another file, or --protocol raw."
        )


def check_stride(stride: int | None, protocols: Sequence[Protocol], seq_len: int) -> None:
    """Raises `UserError` if a stride was named that the model or one of the protocols cannot take.

    Args:
      stride: that the user named, or None.
      protocols: that are asked for.
      seq_len: of the model.
    """
    if stride is None:
        return
    require_stride(stride, seq_len)
    if names := [protocol.name for protocol in protocols if protocol.has_own_stride]:
        raise UserError(
            f"--stride must go with protocols that leave it open, and {', '.join(names)} have their own: name others "
            "with --protocol."
        )


def require_full_window(results: Iterable[dict[str, Any]]) -> None:
    """Raises `UserError` if a text is shorter than a window: its figure is of less context than any published one."""
    for result in results:
        if result["scored_tokens"] < result["window"] - 1:  # The documented loop leaves a window's first token out.
            raise UserError(
                f"a text must fill a window of {result['window']} tokens, and under protocol {result['protocol']} this "
                f"one has {result['scored_tokens']}: name a longer file, or use eval/bits_per_byte.py."
            )


def _result(protocol: Protocol, result: ReadingScore, seq_len: int, stride: int) -> dict[str, Any]:
    scored_text = "".join(result.documents).encode("utf-8")
    return {
        **protocol.figures(result),
        "protocol": protocol.name,
        "description": protocol.description,
        "figure": protocol.figure,
        "published": [Baseline._asdict(baseline) for baseline in protocol.published],
        "window": seq_len,
        "stride": stride,
        "text_bytes": len(scored_text),
        "text_sha256": hashlib.sha256(scored_text).hexdigest(),
    }


def _score_reading(scorer: Scorer, tokenizer: Tokenizer, text: str, protocol: Protocol, stride: int) -> ReadingScore:
    reading = protocol.reading
    documents = reading.documents(text)
    prefix = [tokenizer.eos_id] if reading.starts_with_eos else []
    sequences = [np.asarray([*prefix, *ids], np.int32) for ids in tokenizer.encode_batch(documents)]
    words, tokens = len(text.split()), sum(max(len(ids) - 1, 0) for ids in sequences)
    if not words or not tokens:
        raise UserError(
            f"a text must have at least one word and one token to score, and under protocol {protocol.name} this one "
            f"has {words} words and {tokens} tokens to score: name a longer file."
        )
    with progress_bar(f"scoring {protocol.name}", "token", tokens) as progress:
        ours, loop = _totals(scorer, _shared_windows(reading, sequences, scorer, stride), progress)
    lengths = tokenizer.token_byte_lengths()
    scored_bytes = sum(int(lengths[ids[1:]].sum()) for ids in sequences)
    return ReadingScore(text, documents, *ours, scored_bytes, *loop)


def _shared_windows(
    reading: Reading, sequences: Iterable[np.ndarray], scorer: Scorer, stride: int
) -> Iterator[SharedWindow]:
    """Yields the windows of all sequences; where they are not those of the loop, its shares are not used."""
    seq_len = scorer.model.config.seq_len
    for ids in sequences:
        shares = loop_shares(len(ids), seq_len, stride)
        for window, share in zip(reading.windows(ids, seq_len, stride), shares, strict=True):
            yield SharedWindow(window, share)


def _totals(scorer: Scorer, stream: Iterable[SharedWindow], progress: tqdm) -> tuple[Score, Score]:
    """Returns the scores of all windows, by our count and by the documented loop's, summed in float64."""
    stream, kept = itertools.tee(stream)
    ours, loop = Score(0.0, 0), Score(0.0, 0)
    for shared, nats in zip(kept, scorer.target_nats(one.scored_by_either for one in stream), strict=True):
        counted = shared.window.scored == 1
        tokens = int(counted.sum())
        ours = Score(ours.total_nats + float(nats[counted].sum()), ours.tokens + tokens)
        loop = Score(loop.total_nats + shared.share.nats_of(nats), loop.tokens + shared.share.weight)
        progress.update(tokens)
    return ours, loop
