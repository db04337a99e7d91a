"""Encodes a piece of the input into sorted files of documents, one or more for each split."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import SKIP
from algpt2.preparation.document_keys import content_digest, is_held_out, key_array, order_key
from algpt2.preparation.entries import Entries, Entry
from algpt2.preparation.exclusion import ngrams_of
from algpt2.preparation.mixture import Input
from algpt2.preparation.plan import NamedPiece, Plan, keys_of
from algpt2.preparation.removed_entries import NGRAM, REMOVED_SUFFIX, WEIGHT, RemovedEntries
from algpt2.preparation.signature_files import Bands, SignatureFiles
from algpt2.preparation.sorted_documents import MARK_DTYPE, Documents, Layout, write_sorted
from algpt2.text.encoders import create_encoder
from algpt2.text.faults import FaultCounts, InputFault
from algpt2.text.ngrams import Ngrams
from algpt2.text.read_parts import ReadPart
from algpt2.text.signatures import Signer
from algpt2.text.tokenizer import Tokenizer

BATCH_DOCUMENTS = 1024
BATCH_CHARACTERS = 1 << 20
FILE_TOKENS = 1 << 25
LOOKUP_IDS = 1 << 20
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
      parts: what was read of its files.
      entries: how many documents and faults there are in each of its files, or in its part of one.
      excluded: how many documents are left out because of their n-grams.
      removed: whether there is a file of what is left out.
      signatures: the names of the files of the documents' signatures, if nearly equal ones are looked for.
      skipped: how many faults were skipped, by kind.
      first_skipped: what the first of each kind says.
    """

    train: EncodedSplit
    val: EncodedSplit
    parts: tuple[ReadPart, ...]
    entries: tuple[int, ...]
    excluded: int
    removed: bool
    signatures: tuple[str, ...] = ()
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    first_skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def documents(self) -> int:
        """How many documents there are in the input, each once."""
        return sum(self.entries) - sum(self.skipped.values())


class PieceEncoder:
    """Encodes the pieces of a plan with one tokenizer into one folder."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, folder: str):
        self._encoder = create_encoder(plan.options.encoder, tokenizer)
        self._signer = None if plan.options.near_duplicates is None else Signer()
        byte_lengths = tokenizer.token_byte_lengths()
        self._byte_lengths = byte_lengths.astype(np.min_scalar_type(byte_lengths.max()))
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
        layout, source = self._plan.layout, self._plan.command.inputs[named.input]
        splits = {split: _SplitFiles(f"{named.name}-{split}", layout, self._folder) for split in (TRAIN, VAL)}
        signatures = self._signature_files(named)
        faults, removed, parts = FaultCounts(), RemovedEntries(), []

        def on_fault(entry: int, fault: InputFault) -> None:
            faults.add(fault)
            removed.add([entry], fault.kind)

        skipping = on_fault if self._options.on_error == SKIP else None
        entries = Entries(named.piece, keys_of(self._options), on_bytes, skipping, parts.append)
        for batch in _batches(self._without_excluded(entries.documents(), removed)):
            untaken = self._encode_batch(batch, source, splits, signatures)
            if not self._options.deduplicate:  # Else the first with the text decides.
                removed.add(untaken, WEIGHT)
        train, val = (splits[split].close() for split in (TRAIN, VAL))
        stored, excluded = self._put(removed, named.name), removed.count(NGRAM)
        read, signed = (tuple(parts), tuple(entries.counts)), signatures.close() if signatures else ()
        return EncodedPiece(train, val, *read, excluded, stored, signed, faults.counts, faults.first)

    def _signature_files(self, named: NamedPiece) -> SignatureFiles | None:
        if self._signer is None:
            return None
        return SignatureFiles(named.name, Bands.of(self._options.near_duplicates), self._plan.layout, self._folder)

    @functools.cached_property
    def _ngrams(self) -> Ngrams:
        return ngrams_of(self._plan.command.excluded_files, self._options.ngram_words)

    def _without_excluded(self, entries: Iterator[Entry], removed: RemovedEntries) -> Iterator[Entry]:
        if not self._plan.command.excluded_files:
            yield from entries
            return
        for entry in entries:
            if self._ngrams.are_shared_with(entry.document.text):
                removed.add([entry.number], NGRAM)
            else:
                yield entry

    def _put(self, removed: RemovedEntries, name: str) -> bool:
        """Returns whether there is a file of what was left out: if it is to be listed, and there is something."""
        is_stored = bool(removed) and self._options.removed_documents is not None
        if is_stored:
            removed.write(storage.join(self._folder, f"{name}{REMOVED_SUFFIX}"))
        return is_stored

    def _encode_batch(
        self,
        batch: list[Entry],
        source: Input,
        splits: "dict[str, _SplitFiles]",
        signatures: SignatureFiles | None,
    ) -> list[int]:
        """Hands documents to their splits; returns the numbers of those that the input's weight does not take."""
        digests = [content_digest(entry.document.utf8) for entry in batch]
        held_out = np.array([is_held_out(digest, self._options.val_fraction) for digest in digests])
        if signatures is not None:
            values, has_words = self._signer.signatures([entry.document.text for entry in batch])
            signatures.add(key_array(digests)[has_words], held_out[has_words], values[has_words])
        keys = self._keys(digests, 0)
        is_taken = source.is_taken(keys, 0)  # What is not taken once is not taken at all.
        ids, lengths = self._encoded(batch, is_taken)
        sizes = np.array([len(entry.document.utf8) for entry in batch], dtype=np.int64)
        self._require_spelling(ids, np.cumsum(lengths, dtype=np.int64), np.where(is_taken, sizes, 0))
        ids = ids.astype(self._plan.layout.dtype, copy=False)
        marks = np.zeros(len(batch), MARK_DTYPE)
        marks["entry"] = [entry.number for entry in batch]
        # Which of the documents with one text is the first is not known here, so each leaves a mark for every copy.
        copies = self._plan.command.copies if self._options.deduplicate else source.copies
        for copy in range(copies):
            keys = self._keys(digests, copy) if copy else keys
            marks["copy"], marks["is_taken"] = copy, source.is_taken(keys, copy)
            documents = _without_untaken_ids(Documents(keys, lengths, ids, marks))
            stored = marks["is_taken"] | self._options.deduplicate
            for name, of_split in ((TRAIN, ~held_out), (VAL, held_out)):
                splits[name].add(documents.chosen(of_split & stored), sizes[of_split & marks["is_taken"]])
        return marks["entry"][~is_taken].tolist()

    def _keys(self, digests: list[bytes], copy: int) -> np.ndarray:
        return key_array([order_key(digest, self._options.seed, copy) for digest in digests])

    def _encoded(self, batch: list[Entry], is_taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all documents that are taken at least once, and how many each document has."""
        texts = [entry.document.text for entry, taken in zip(batch, is_taken, strict=True) if taken]
        lengths = np.zeros(len(batch), np.uint32)
        if not texts:
            return np.empty(0, self._plan.layout.dtype), lengths
        ids, lengths[is_taken] = self._encoder.encode_arrays(texts)
        return ids, lengths

    def _require_spelling(self, ids: np.ndarray, ends: np.ndarray, sizes: np.ndarray) -> None:
        byte_lengths = _looked_up(self._byte_lengths, ids)
        starts, has_ids = ends - np.diff(ends, prepend=0), np.diff(ends, prepend=0) > 0
        spelled = np.zeros(len(sizes), np.int64)
        if has_ids.any():
            spelled[has_ids] = np.add.reduceat(byte_lengths, starts[has_ids], dtype=np.int64)
        if (wrong := np.flatnonzero(spelled != sizes)).size:
            raise RuntimeError(f"the tokenizer turned {sizes[wrong[0]]} bytes of a text into {spelled[wrong[0]]}")


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
        self._waiting.append(documents)
        if sum(len(one.ids) + len(one.lengths) for one in self._waiting) >= FILE_TOKENS:
            self._write()

    def close(self) -> EncodedSplit:
        if self._waiting:
            self._write()
        return EncodedSplit(tuple(self._files), self._counts)

    def _write(self) -> None:
        name = f"{self._name}-{len(self._files):03d}.documents"
        write_sorted(storage.join(self._folder, name), self._waiting, self._layout)
        self._files.append(name)
        self._waiting = []


def _without_untaken_ids(documents: Documents) -> Documents:
    taken = documents.marks["is_taken"]
    lengths = np.where(taken, documents.lengths, 0)
    if lengths.sum(dtype=np.int64) == len(documents.ids):
        return documents
    return dataclasses.replace(documents, lengths=lengths, ids=documents.ids[np.repeat(taken, documents.lengths)])


def _looked_up(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns table[ids] without NumPy's copy of all ids as int64, which for a document of 300 MB takes 0.8 GB."""
    found = np.empty(len(ids), table.dtype)
    for start in range(0, len(ids), LOOKUP_IDS):
        found[start : start + LOOKUP_IDS] = table[ids[start : start + LOOKUP_IDS]]
    return found


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yields lists of documents, bounded in number and, but for one longer document, in characters."""
    batch, characters = [], 0
    for entry in entries:
        if batch and len(entry.document.text) >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(entry)
        characters += len(entry.document.text)
        if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
