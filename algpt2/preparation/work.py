"""The kinds of work of a preparation, which any process can do for any part: encode a piece, count, write shards."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from algpt2 import storage
from algpt2.config.records import DOCUMENTS_FORMAT, LEGACY_PACKING, LOSSY_PACKINGS, RecordOptions
from algpt2.preparation.best_fit_packing import BestFitPacker
from algpt2.preparation.encoding import TRAIN, EncodedSplit, PieceEncoder, SplitCounts
from algpt2.preparation.legacy_packing import LegacyPacker
from algpt2.preparation.near_duplicates import Comparison, write_left_out
from algpt2.preparation.packing import record_blocks
from algpt2.preparation.plan import Plan
from algpt2.preparation.removed_entries import DUPLICATE, NEAR_DUPLICATE, WEIGHT, RemovedEntries
from algpt2.preparation.signature_files import SignatureFile
from algpt2.preparation.sorted_documents import Documents, MergedFiles, SortedFile
from algpt2.preparation.token_stream import DocumentStream, TokenStream
from algpt2.preparation.work_folder import WorkFolder
from algpt2.records.document_writing import write_document_shard
from algpt2.records.shard_entry import Shard, shard_name
from algpt2.records.shard_writing import write_shard
from algpt2.storage.versions import versions_of
from algpt2.text.read_parts import require_versions
from algpt2.text.tokenizer import Tokenizer

BLOCK_RECORDS = 1024
T = TypeVar("T")
WriteRange = Callable[[str, int, int], Shard]
"""Writes the records of a split from one to before another to a file, and returns its entry."""
Report = Callable[[int], Any]
"""Called with how many bytes, or records, are done since the last call."""


def stores_documents(options: RecordOptions, split: str) -> bool:
    """Returns whether the records of a split are documents; those of `val`, which are read in order, are packed."""
    return options.format == DOCUMENTS_FORMAT and split == TRAIN


class Work:
    """Does parts of a plan, in one output folder."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, output: str):
        self._plan = plan
        self._tokenizer = tokenizer
        self._output = output
        self._folder = WorkFolder(output)
        self._copies = storage.LocalCopies()

    def encode(self, number: int, report: Report) -> None:
        """Encodes a piece of the input; `report` is called with stored bytes read."""
        named = self._plan.pieces[number]
        files = [file.path for file in named.piece.files]
        # Another machine, which made the plan, may have copies of its own, with other times.
        versions = versions_of(files) if self._plan.of_many_machines else named.versions
        encoded = self._encoder.encode(named, report)
        require_versions(files, versions)
        self._folder.put_encoded_piece(named.name, encoded)

    def find_near_duplicates(self, first_bin: int, end_bin: int, report: Report) -> None:
        """Writes which documents some bins of bands leave out; `report` is called with bins done."""
        plan, encoded = self._plan, map(self._folder.encoded_piece, (named.name for named in self._plan.pieces))
        names = [name for piece in encoded for name in piece.signatures]
        files = [SignatureFile(self._local(name), plan.layout) for name in names]
        comparison, digests = Comparison(files, plan.options.near_duplicates), []
        for number in range(first_bin, end_bin):
            digests.append(comparison.left_out(number))
            report(1)
        path = self._folder.near_duplicates(plan, first_bin)
        write_left_out(path, digests, plan.options.seed, plan.command.copies, plan.layout)

    def count_kept(self, split: str, first_bin: int, end_bin: int, report: Report) -> "KeptDocuments":
        """Returns what some bins of a split have without duplicates; `report` is called with bins done."""
        byte_lengths, pieces = self._tokenizer.token_byte_lengths(), len(self._plan.pieces)
        in_documents = stores_documents(self._plan.options, split)
        kept, removed = KeptDocuments.none(pieces), RemovedEntries()
        for documents in self._files(split).stored_bins(first_bin, end_bin):
            kept += KeptDocuments.of_bin(documents, byte_lengths, pieces, in_documents)
            if self._plan.options.removed_documents is not None:
                _add_removed(removed, documents)
            report(1)
        if removed:
            removed.write(self._folder.removed_of_bins(self._plan, split, first_bin))
        return kept

    def write(self, split: "PackedSplit", indices: Sequence[int], report: Report) -> None:
        """Writes some shards of a split, of ascending indices; `report` is called with records written."""
        write = self._document_writer if stores_documents(self._plan.options, split.name) else self._record_writer
        write_range = write(self._files(split.name), split.bin_sizes, report)
        for index in indices:
            path = storage.join(self._output, split.shards.name(split.name, index))
            shard = write_range(path, *split.shards.records(index))
            self._folder.put_shard(self._plan, split.name, index, shard)

    def _record_writer(self, files: MergedFiles, bin_sizes: np.ndarray | None, report: Report) -> WriteRange:
        byte_lengths, blocks_of = self._tokenizer.token_byte_lengths(), self._blocks_of(files, bin_sizes)
        return lambda path, first, end: write_shard(path, _reported(blocks_of(first, end), report), byte_lengths)

    def _document_writer(self, files: MergedFiles, bin_sizes: np.ndarray | None, report: Report) -> WriteRange:
        sizes = files.stored_documents() if bin_sizes is None else bin_sizes
        stream = DocumentStream(files, sizes, self._tokenizer.eos_id)
        byte_lengths = self._tokenizer.token_byte_lengths()

        def write(path: str, first: int, end: int) -> Shard:
            blocks = _reported(stream.read(first, end), report, lambda block: len(block[0]))
            return write_document_shard(path, blocks, byte_lengths)

        return write

    @functools.cached_property
    def _encoder(self) -> PieceEncoder:
        return PieceEncoder(self._plan, self._tokenizer, self._folder.path)

    def losses(self, split: str) -> tuple[int, int, int]:
        """Returns the records that a packing with losses makes of a split, the tokens it loses, and its false EOS."""
        packer = self._packer()
        records = sum(1 for _ in self._records(packer, self._files(split)))
        return records, packer.lost_tokens, packer.false_eos

    def _blocks_of(
        self, files: MergedFiles, bin_sizes: np.ndarray | None
    ) -> Callable[[int, int], Iterator[np.ndarray]]:
        """Returns what gives the records from one to before another; with losses once, in ascending order."""
        seq_len = self._plan.options.seq_len
        if self._plan.options.packing not in LOSSY_PACKINGS:
            sizes = files.stored_sizes() if bin_sizes is None else bin_sizes
            stream = TokenStream(files, sizes, self._tokenizer.eos_id)
            return lambda first, end: record_blocks(stream.read(first * seq_len, end * seq_len + 1), seq_len)
        records = enumerate(self._records(self._packer(), files))
        return lambda first, end: _blocks(record for number, record in _until(records, end) if number >= first)

    def _packer(self) -> LegacyPacker | BestFitPacker:
        kind = LegacyPacker if self._plan.options.packing == LEGACY_PACKING else BestFitPacker
        return kind(self._plan.options.seq_len, self._tokenizer.eos_id)

    def _records(self, packer: LegacyPacker | BestFitPacker, files: MergedFiles) -> Iterator[np.ndarray]:
        for document in self._documents(files):
            yield from packer.add(document)
        yield from packer.finish()

    def _documents(self, files: MergedFiles) -> Iterator[np.ndarray]:
        for documents in files.bins(0, self._plan.layout.bins):
            ends = np.cumsum(documents.lengths, dtype=np.int64)
            yield from (documents.ids[end - size : end] for end, size in zip(ends, documents.lengths, strict=True))

    def _files(self, split: str) -> MergedFiles:
        plan = self._plan
        names = [(name, piece) for piece, of_split in enumerate(self._encoded(split)) for name in of_split.files]
        files = [SortedFile(self._local(name), plan.layout, piece) for name, piece in names]
        ranges = [] if plan.options.near_duplicates is None else plan.layout.ranges()
        paths = [self._folder.near_duplicates(plan, first_bin) for first_bin, _ in ranges]
        left_out = [SortedFile(self._copies.file(path), plan.layout) for path in paths]
        return MergedFiles(files, plan.options.deduplicate, left_out)

    def _local(self, name: str) -> str:
        """Returns where a file of the unfinished work lies on this machine."""
        return self._copies.file(storage.join(self._folder.path, name))

    def _encoded(self, split: str) -> Iterator[EncodedSplit]:
        for named in self._plan.pieces:
            yield getattr(self._folder.encoded_piece(named.name), split)


@dataclasses.dataclass(frozen=True)
class KeptDocuments:
    """What is left of a range of bins without duplicates.

    Attributes:
      counts: of the documents that are taken.
      duplicates: how many documents of the input have the text of one before them.
      near_duplicates: how many others are left out because they are nearly equal to another.
      taken: how many documents are taken of each piece of the input, int64 (pieces,).
      bin_sizes: how much each bin has, see `PackedSplit`, int64 (bins,).
    """

    counts: SplitCounts
    duplicates: int
    near_duplicates: int
    taken: np.ndarray
    bin_sizes: np.ndarray

    @classmethod
    def none(cls, pieces: int) -> "KeptDocuments":
        """Returns those of no bins, in a plan of so many pieces."""
        return cls(SplitCounts(), 0, 0, np.zeros(pieces, np.int64), np.empty(0, np.int64))

    @classmethod
    def of_bin(cls, stored: Documents, byte_lengths: np.ndarray, pieces: int, in_documents: bool) -> "KeptDocuments":
        """Returns those of a bin's documents; a text is as long as the bytes that its ids spell."""
        are_first = stored.are_first()
        kept = stored.chosen(stored.are_kept())
        text_bytes = int(byte_lengths[kept.ids].sum(dtype=np.int64))
        counts = SplitCounts(len(kept.lengths), text_bytes, len(kept.lengths) + len(kept.ids))
        is_itself = stored.marks["copy"] == 0
        duplicates = int(np.count_nonzero(~are_first & is_itself))
        near_duplicates = int(np.count_nonzero(are_first & is_itself & stored.marks["is_near_duplicate"]))
        taken = np.bincount(kept.marks["piece"], minlength=pieces)
        size = counts.documents if in_documents else counts.input_tokens
        return cls(counts, duplicates, near_duplicates, taken, np.array([size]))

    def __add__(self, other: "KeptDocuments") -> "KeptDocuments":
        bin_sizes = np.concatenate([self.bin_sizes, other.bin_sizes])
        counts, duplicates = self.counts + other.counts, self.duplicates + other.duplicates
        near_duplicates = self.near_duplicates + other.near_duplicates
        return KeptDocuments(counts, duplicates, near_duplicates, self.taken + other.taken, bin_sizes)


@dataclasses.dataclass(frozen=True)
class PackedSplit:
    """A split whose records are to be written.

    Attributes:
      name: "train" or "val".
      shards: how its records are shared out.
      bin_sizes: how many ids, with EOS, or documents if they are the records, each bin gives, int64 (bins,); None where
        that is what its files hold.
    """

    name: str
    shards: "Shards"
    bin_sizes: np.ndarray | None


class Shards:
    """How the records of a split are shared out to its shards, which are nearly equal in size."""

    def __init__(self, records: int, count: int):
        """Takes the split's records and the number of its shards, which is 0 for a split that has none."""
        self.count = count
        self.total = records if count else 0

    def records(self, index: int) -> tuple[int, int]:
        """Returns the first record of a shard, and the one behind its last."""
        size, larger = divmod(self.total, self.count)
        first = index * size + min(index, larger)
        return first, first + size + (index < larger)

    def size(self, index: int) -> int:
        """Returns how many records a shard has."""
        first, end = self.records(index)
        return end - first

    def name(self, split: str, index: int) -> str:
        """Returns the name of a shard's file."""
        return shard_name(split, index, self.count)


def _add_removed(removed: RemovedEntries, stored: Documents) -> None:
    """Adds those of a bin's documents that are left out: duplicates, and the first that their weight does not take."""
    marks, are_first = stored.marks, stored.are_first()
    is_itself, is_near = marks["copy"] == 0, are_first & marks["is_near_duplicate"]
    is_untaken = are_first & ~is_near & ~marks["is_taken"]
    for reason, chosen in ((DUPLICATE, ~are_first), (NEAR_DUPLICATE, is_near), (WEIGHT, is_untaken)):
        of_reason = marks[is_itself & chosen]
        removed.add(of_reason["entry"].tolist(), reason, of_reason["piece"].tolist())


def _until(numbered: Iterator[tuple[int, np.ndarray]], end: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields numbered records to before number `end`, and takes no more of them."""
    for number, record in numbered:
        yield number, record
        if number == end - 1:
            return


def _blocks(records: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    while block := list(itertools.islice(records, BLOCK_RECORDS)):
        yield np.stack(block)


def _reported(blocks: Iterator[T], report: Report, size: Callable[[T], int] = len) -> Iterator[T]:
    for block in blocks:
        yield block
        report(size(block))
