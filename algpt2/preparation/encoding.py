"""Encodes a piece of the input into sorted files of documents, one or more for each split."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import SKIP
from algpt2.preparation.document_keys import content_digest, is_held_out, key_array, order_key
from algpt2.preparation.exclusion import ngrams_of
from algpt2.preparation.mixture import Input
from algpt2.preparation.plan import NamedPiece, Plan, keys_of
from algpt2.preparation.sorted_documents import MARK_DTYPE, Documents, Layout, write_sorted
from algpt2.text.documents import Document, documents_of_piece
from algpt2.text.encoders import create_encoder
from algpt2.text.faults import FaultCounts
from algpt2.text.ngrams import Ngrams
from algpt2.text.tokenizer import Tokenizer

BATCH_DOCUMENTS = 1024
BATCH_CHARACTERS = 1 << 22
FILE_TOKENS = 1 << 25
TRAIN, VAL = "train", "val"


@dataclasses.dataclass(frozen=True)
class SplitCounts:
    """What a split has of some documents: their number, their UTF-8 bytes, and their tokens with an EOS for each."""

    documents: int = 0
    text_bytes: int = 0
    input_tokens: int = 0

    def __add__(self, other: "SplitCounts") -> "SplitCounts":
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return SplitCounts(*(one + another for one, another in pairs))


@dataclasses.dataclass(frozen=True)
class EncodedSplit:
    """The documents of one split in a piece: the names of their files, and their counts."""

    files: tuple[str, ...]
    counts: SplitCounts


@dataclasses.dataclass(frozen=True)
class EncodedPiece:
    """What a piece of the input came to.

    Attributes:
      train: the documents of this split that are taken, as often as they are.
      val: those of this one.
      documents: how many there are in the input, each once.
      excluded: how many of them are left out because of their n-grams.
      skipped: how many faults were skipped, by kind.
      first_skipped: the first of each kind.
    """

    train: EncodedSplit
    val: EncodedSplit
    documents: int
    excluded: int
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    first_skipped: dict[str, str] = dataclasses.field(default_factory=dict)


class PieceEncoder:
    """Encodes the pieces of a plan with one tokenizer into one folder."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, folder: str):
        self._encoder = create_encoder(plan.options.encoder, tokenizer)
        self._byte_lengths = tokenizer.token_byte_lengths().astype(np.int64)
        self._plan = plan
        self._options = plan.options
        self._folder = folder

    def encode(self, named: NamedPiece, on_bytes: Callable[[int], Any]) -> EncodedPiece:
        """Writes the files of a piece, whose names begin with its own, and returns what is in them.

        Args:
          named: the piece of the input.
          on_bytes: called with the number of stored bytes read since the last call.

        Raises:
          UserError: the piece holds what is no document, a file of `exclude_ngrams` has changed, or the encoder gives
            other ids than the tokenizer.
          RuntimeError: the ids of a text do not spell it, so the tokenizer is broken.
        """
        layout, folder = self._plan.layout, self._folder
        splits = {split: _SplitFiles(f"{named.name}-{split}", layout, folder) for split in (TRAIN, VAL)}
        faults, count, excluded = FaultCounts(), 0, 0
        on_fault = faults.add if self._options.on_error == SKIP else None
        for batch in _batches(documents_of_piece(named.piece, keys_of(self._options), on_bytes, on_fault)):
            kept = [document for document in batch if not self._is_excluded(document)]
            if kept:
                self._encode_batch(kept, self._plan.command.inputs[named.input], splits)
            count, excluded = count + len(batch), excluded + len(batch) - len(kept)
        encoded = (splits[split].close() for split in (TRAIN, VAL))
        return EncodedPiece(*encoded, count, excluded, faults.counts, faults.first)

    @functools.cached_property
    def _ngrams(self) -> Ngrams:
        return ngrams_of(self._plan.command.excluded_files, self._options.ngram_words)

    def _is_excluded(self, document: Document) -> bool:
        return bool(self._plan.command.excluded_files) and self._ngrams.are_shared_with(document.text)

    def _encode_batch(self, batch: list[Document], source: Input, splits: "dict[str, _SplitFiles]") -> None:
        ids, lengths = self._encoder.encode_arrays([document.text for document in batch])
        sizes = np.array([len(document.utf8) for document in batch], dtype=np.int64)
        ends = np.cumsum(lengths, dtype=np.int64)
        self._require_spelling(ids, ends, sizes)
        digests = [content_digest(document.utf8) for document in batch]
        held_out = np.array([is_held_out(digest, self._options.val_fraction) for digest in digests])
        # Which of the documents with one text is the first is not known here, so each leaves a mark for every copy.
        copies = self._plan.command.copies if self._options.deduplicate else source.copies
        for copy in range(copies):
            keys = key_array([order_key(digest, self._options.seed, copy) for digest in digests])
            marks = np.zeros(len(batch), MARK_DTYPE)
            marks["copy"], marks["is_taken"] = copy, source.is_taken(keys, copy)
            documents = _without_untaken_ids(Documents(keys, lengths, ids, marks))
            stored = marks["is_taken"] | self._options.deduplicate
            for name, of_split in ((TRAIN, ~held_out), (VAL, held_out)):
                splits[name].add(documents.chosen(of_split & stored), sizes[of_split & marks["is_taken"]])

    def _require_spelling(self, ids: np.ndarray, ends: np.ndarray, sizes: np.ndarray) -> None:
        spelled = np.concatenate([[0], np.cumsum(self._byte_lengths[ids])])[ends]
        wrong = np.flatnonzero(np.diff(spelled, prepend=0) != sizes)
        if len(wrong):
            place = wrong[0]
            found = np.diff(spelled, prepend=0)[place]
            raise RuntimeError(f"the tokenizer turned {sizes[place]} bytes of a text into {found}")


class _SplitFiles:
    """The files of one split in one piece: another is begun where one would hold more ids than memory should."""

    def __init__(self, name: str, layout: Layout, folder: str):
        self._name = name
        self._layout = layout
        self._folder = folder
        self._files: list[str] = []
        self._counts = SplitCounts()
        self._waiting: list[Documents] = []

    def add(self, documents: Documents, sizes: np.ndarray) -> None:
        """Takes documents, and how many UTF-8 bytes each of those has that are taken."""
        if not len(documents.lengths):
            return
        self._counts += SplitCounts(len(sizes), int(sizes.sum()), len(sizes) + len(documents.ids))
        ids = documents.ids.astype(self._layout.dtype)
        self._waiting.append(dataclasses.replace(documents, ids=ids))
        if sum(len(one.ids) + len(one.lengths) for one in self._waiting) >= FILE_TOKENS:
            self._write()

    def close(self) -> EncodedSplit:
        if self._waiting:
            self._write()
        return EncodedSplit(tuple(self._files), self._counts)

    def _write(self) -> None:
        name = f"{self._name}-{len(self._files):03d}.documents"
        write_sorted(storage.join(self._folder, name), Documents.joined(self._waiting), self._layout)
        self._files.append(name)
        self._waiting = []


def _without_untaken_ids(documents: Documents) -> Documents:
    taken = documents.marks["is_taken"]
    if taken.all():
        return documents
    ids = documents.ids[np.repeat(taken, documents.lengths)]
    return dataclasses.replace(documents, lengths=np.where(taken, documents.lengths, 0), ids=ids)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yields lists of documents, bounded in number and, but for one longer document, in characters."""
    batch, characters = [], 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
