"""What a tokenizer makes of some text: how many bytes a token spells, and which ids are of no use."""

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from algpt2.errors import UserError
from algpt2.tables import aligned
from algpt2.text.documents import Document
from algpt2.text.tokenizer import Tokenizer

BATCH_DOCUMENTS = 256
MOST_LISTED = 20


@dataclasses.dataclass
class SourceCounts:
    """What was counted of the documents of one source."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0

    def figures(self) -> dict[str, Any]:
        """Returns the counts, and the bytes of a token; None where there are no tokens."""
        return {**dataclasses.asdict(self), "bytes_per_token": self.bytes / self.tokens if self.tokens else None}


def report_on(tokenizer: Tokenizer, documents: Iterable[Document]) -> dict[str, Any]:
    """Returns what a tokenizer makes of documents.

    Args:
      tokenizer: to report on.
      documents: read once; they should be others than those that it was trained on.

    Returns:
      `sources`, the figures of each domain of the documents; `all`, those of all; `unused_ids`, how many ids no
      document has, EOS apart, and `unused_tokens`, the first of them as text; `longest_tokens`, those of most bytes,
      each with its `id`, `bytes` and how often it came.

    Raises:
      UserError: the documents have no text.
    """
    sources: dict[str, SourceCounts] = defaultdict(SourceCounts)
    uses = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    remaining = iter(documents)
    while batch := list(itertools.islice(remaining, BATCH_DOCUMENTS)):
        ids, lengths = tokenizer.encode_arrays([document.text for document in batch])
        uses += np.bincount(ids, minlength=len(uses))
        for document, length in zip(batch, lengths.tolist(), strict=True):
            _add(sources[document.domain], document, length)
    total = SourceCounts(*(sum(column) for column in zip(*map(dataclasses.astuple, sources.values()), strict=True)))
    if not total.tokens:
        raise UserError(f"documents must have text, and all {total.documents} are empty: name other files.")
    unused = np.flatnonzero(uses[: tokenizer.eos_id] == 0)
    return {
        "sources": {name: sources[name].figures() for name in sorted(sources)},
        "all": total.figures(),
        "vocab_size": tokenizer.vocab_size,
        "unused_ids": len(unused),
        "unused_tokens": [tokenizer.decode([id_]) for id_ in unused[:MOST_LISTED]],
        "longest_tokens": _longest(tokenizer, uses),
    }


def table(report: dict[str, Any]) -> str:
    """Returns a report's sources for people, a line for each and one for all."""
    named = [*report["sources"].items(), ("all", report["all"])]
    return aligned([("source", "documents", "bytes", "tokens", "bytes per token"), *(_cells(*one) for one in named)])


def _add(counts: SourceCounts, document: Document, tokens: int) -> None:
    counts.documents += 1
    counts.bytes += len(document.utf8)
    counts.tokens += tokens


def _longest(tokenizer: Tokenizer, uses: np.ndarray) -> list[dict[str, Any]]:
    sizes = tokenizer.token_byte_lengths()
    longest = np.argsort(-sizes, kind="stable")[:MOST_LISTED].tolist()
    return [
        {"id": id_, "text": tokenizer.decode([id_]), "bytes": int(sizes[id_]), "uses": int(uses[id_])}
        for id_ in longest
    ]


def _cells(name: str, figures: dict[str, Any]) -> tuple[str, ...]:
    per_token = figures["bytes_per_token"]
    counts = (f"{figures[key]:,}" for key in ("documents", "bytes", "tokens"))
    return (name, *counts, "-" if per_token is None else f"{per_token:.3f}")
