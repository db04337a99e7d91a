"""Bits per byte of documents, for each domain and for all together, as the tables of The Pile give them.

Source: Gao et al. 2020, arXiv:2101.00027, section 3.1: bits per UTF-8 byte, by the set that a document is of.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from algpt2.errors import UserError
from algpt2.evaluation.continuations import window_length
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.scores import bits_per_byte, perplexity
from algpt2.evaluation.windows import Window, windows
from algpt2.progress import progress_bar
from algpt2.text.documents import DEFAULT_KEYS, Document, Keys, iterate_documents, require_documents
from algpt2.text.input_files import input_bytes
from algpt2.text.tokenizer import Tokenizer

DESCRIPTION = (
    "each document by itself, with EOS in front, as in training; every token of the text is scored, and the bytes are "
    "those of the text as UTF-8"
)


@dataclasses.dataclass(frozen=True)
class DocumentSource:
    """Which documents are scored: the paths, and what tells documents and their text, as in `iterate_documents`."""

    paths: tuple[str, ...]
    keys: Keys = DEFAULT_KEYS


@dataclasses.dataclass
class Tally:
    """What was counted of a domain's documents so far."""

    documents: int = 0
    text_bytes: int = 0
    tokens: int = 0
    total_nats: float = 0.0

    def add(self, other: "Tally") -> None:
        """Adds the counts of other documents to these."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    def figures(self) -> dict[str, Any]:
        """Returns the counts, bits per byte, and perplexity per token; None where every document is empty."""
        return {
            **dataclasses.asdict(self),
            "bits_per_byte": bits_per_byte(self.total_nats, self.text_bytes) if self.text_bytes else None,
            "token_perplexity": perplexity(self.total_nats, self.tokens) if self.tokens else None,
        }


def evaluate_by_domain(scorer: Scorer, tokenizer: Tokenizer, source: DocumentSource, stride: int) -> dict[str, Any]:
    """Returns the figures of each domain, sorted by its name, those of all documents, and how they were made.

    Documents are read as they are scored, so that no more than a few of them are in memory.

    Args:
      scorer: of the model.
      tokenizer: the one that the model was trained with.
      source: the documents.
      stride: positions from one window's start to the next, where a document has several; in [1, seq_len].

    Raises:
      UserError: the documents cannot be read, or there is no text in them.
    """
    with progress_bar("scoring", "B", input_bytes(source.paths)) as progress:
        documents = iterate_documents(source.paths, source.keys, progress.update)
        tallies = tally_domains(scorer, tokenizer, require_documents(documents), stride)
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    if not total.tokens:
        raise UserError(
            f"the documents must have text to score, and all {total.documents} are empty: name other files."
        )
    return {
        "domains": [{"domain": domain, **tallies[domain].figures()} for domain in sorted(tallies)],
        "all": total.figures(),
        "description": DESCRIPTION,
        "domain_key": source.keys.domain,
        "window": scorer.model.config.seq_len,
        "stride": stride,
    }


def tally_domains(scorer: Scorer, tokenizer: Tokenizer, documents: Iterable[Document], stride: int) -> dict[str, Tally]:
    """Returns the tally of each domain. Windows of several documents, whatever their domains, share a forward pass."""
    tallies: dict[str, Tally] = collections.defaultdict(Tally)
    seq_len = scorer.model.config.seq_len

    def windows_of_documents() -> Iterator[DomainWindow]:
        for document in documents:
            tallies[document.domain].add(Tally(documents=1, text_bytes=len(document.utf8)))
            ids = np.array([tokenizer.eos_id, *tokenizer.encode(document.text)], np.int32)
            for window in windows(ids, seq_len, stride):
                yield DomainWindow(document.domain, window)

    for group, length in in_passes(windows_of_documents(), lambda length: scorer.batch_size * (seq_len // length)):
        scores = scorer.score_windows(shortened(window, length) for _, window in group)
        for (domain, _), score in zip(group, scores, strict=True):
            tallies[domain].add(Tally(tokens=score.tokens, total_nats=score.nats))
    return dict(tallies)


class DomainWindow(NamedTuple):
    """A window of a document, and the document's domain."""

    domain: str
    window: Window

    @property
    def length(self) -> int:
        """One of the few lengths to which its window can be shortened; see `window_length`."""
        used = int(np.flatnonzero(self.window.scored)[-1]) + 1
        return window_length(used, len(self.window.inputs))


def in_passes(
    stream: Iterable[DomainWindow], size_of: Callable[[int], int]
) -> Iterator[tuple[list[DomainWindow], int]]:
    """Yields windows in groups that make a pass or a few, and the length to which those of a group can be shortened.

    So a document of a hundred tokens does not take as long as one of a thousand. What is left at the end of one length
    is filled up with windows of the next longer ones, so that a small file does not need a graph for each length.

    Args:
      stream: windows of seq_len positions.
      size_of: from a length to the windows of a pass.
    """
    waiting: dict[int, list[DomainWindow]] = collections.defaultdict(list)
    for one in stream:
        length = one.length
        waiting[length].append(one)
        if len(waiting[length]) >= size_of(length):
            yield waiting.pop(length), length
    left: list[DomainWindow] = []
    for length in sorted(waiting):
        left += waiting[length]
        if len(left) >= size_of(length) or length == max(waiting):
            yield left, length
            left = []


def shortened(window: Window, length: int) -> Window:
    """Returns the first positions of a window, behind which it must score none."""
    return Window(window.inputs[:length], window.targets[:length], window.scored[:length])


def table(result: dict[str, Any]) -> str:
    """Returns what `evaluate_by_domain` returned as a table for people, a line for each domain and one for all."""
    header = "| domain | documents | bytes | tokens | nats | bits per byte | perplexity per token |\n|" + " --- |" * 7
    rows = [_row(one["domain"], one) for one in result["domains"]]
    return "\n".join([header, *rows, _row("all", result["all"])])


def _row(name: str, figures: dict[str, Any]) -> str:
    counts = " | ".join(f"{figures[key]:,}" for key in ("documents", "text_bytes", "tokens"))
    scores = " | ".join(
        "-" if figures[key] is None else f"{figures[key]:,.{digits}f}"
        for key, digits in (("total_nats", 1), ("bits_per_byte", 4), ("token_perplexity", 2))
    )
    return f"| {name} | {counts} | {scores} |"
