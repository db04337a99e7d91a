"""Encodes a piece of the input into sorted files of documents, one or more for each split."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import SKIP, RecordOptions
from algpt2.preparation.document_keys import content_digest, is_held_out, key_array, order_key
from algpt2.preparation.plan import keys_of
from algpt2.preparation.sorted_documents import Documents, Layout, write_sorted
from algpt2.text.documents import Document, documents_of_piece
from algpt2.text.encoders import create_encoder
from algpt2.text.faults import FaultCounts
from algpt2.text.input_files import Piece
from algpt2.text.read_parts import ReadPart
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
      train, val: its splits.
      parts: what was read of its files.
      skipped: how many faults were skipped, by kind.
      first_skipped: what the first of each kind says.
    """

    train: EncodedSplit
    val: EncodedSplit
    parts: tuple[ReadPart, ...]
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    first_skipped: dict[str, str] = dataclasses.field(default_factory=dict)


class PieceEncoder:
    """Encodes pieces with one tokenizer into one folder."""

    def __init__(self, tokenizer: Tokenizer, options: RecordOptions, layout: Layout, folder: str):
        self._encoder = create_encoder(options.encoder, tokenizer)
        byte_lengths = tokenizer.token_byte_lengths()
        self._byte_lengths = byte_lengths.astype(np.min_scalar_type(byte_lengths.max()))
        self._options = options
        self._layout = layout
        self._folder = folder

    def encode(self, name: str, piece: Piece, on_bytes: Callable[[int], Any]) -> EncodedPiece:
        """Writes the files of a piece, whose names begin with its own, and returns what is in them.

        Args:
          name: of the piece.
          piece: of the input.
          on_bytes: called with the number of stored bytes read since the last call.

        Raises:
          UserError: the piece holds what is no document, or the encoder gives other ids than the tokenizer.
          RuntimeError: the ids of a text do not spell it, so the tokenizer is broken.
        """
        splits = {split: _SplitFiles(f"{name}-{split}", self._layout, self._folder) for split in (TRAIN, VAL)}
        faults, parts = FaultCounts(), []
        on_fault = faults.add if self._options.on_error == SKIP else None
        for batch in _batches(documents_of_piece(piece, keys_of(self._options), on_bytes, on_fault, parts.append)):
            self._encode_batch(batch, splits)
        train, val = (splits[split].close() for split in (TRAIN, VAL))
        return EncodedPiece(train, val, tuple(parts), faults.counts, faults.first)

    def _encode_batch(self, batch: list[Document], splits: "dict[str, _SplitFiles]") -> None:
        ids, lengths = self._encoder.encode_arrays([document.text for document in batch])
        sizes = np.array([len(document.utf8) for document in batch], dtype=np.int64)
        ends = np.cumsum(lengths, dtype=np.int64)
        self._require_spelling(ids, ends, sizes)
        ids = ids.astype(self._layout.dtype, copy=False)
        digests = [content_digest(document.utf8) for document in batch]
        held_out = np.array([is_held_out(digest, self._options.val_fraction) for digest in digests])
        keys = key_array([order_key(digest, self._options.seed) for digest in digests])
        for name, chosen in ((TRAIN, ~held_out), (VAL, held_out)):
            chosen_ids = ids if chosen.all() else ids[np.repeat(chosen, lengths)]
            splits[name].add(Documents(keys[chosen], lengths[chosen], chosen_ids), int(sizes[chosen].sum()))

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

    def add(self, documents: Documents, text_bytes: int) -> None:
        count = len(documents.lengths)
        self._counts += SplitCounts(count, text_bytes, count + len(documents.ids))
        self._waiting.append(documents)
        if sum(len(one.ids) for one in self._waiting) >= FILE_TOKENS:
            self._write()

    def close(self) -> EncodedSplit:
        if self._counts.documents and self._waiting:
            self._write()
        return EncodedSplit(tuple(self._files), self._counts)

    def _write(self) -> None:
        name = f"{self._name}-{len(self._files):03d}.documents"
        write_sorted(storage.join(self._folder, name), self._waiting, self._layout)
        self._files.append(name)
        self._waiting = []


def _looked_up(table: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns table[ids] without NumPy's copy of all ids as int64, which for a document of 300 MB takes 0.8 GB."""
    found = np.empty(len(ids), table.dtype)
    for start in range(0, len(ids), LOOKUP_IDS):
        found[start : start + LOOKUP_IDS] = table[ids[start : start + LOOKUP_IDS]]
    return found


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yields lists of documents, bounded in number and, but for one longer document, in characters."""
    batch, characters = [], 0
    for document in documents:
        if batch and len(document.text) >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(document)
        characters += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
