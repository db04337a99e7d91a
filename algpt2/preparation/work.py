"""The kinds of work of a preparation, which any process can do for any part: encode a piece, count, write shards."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import LEGACY_PACKING, LOSSY_PACKINGS
from algpt2.preparation.best_fit_packing import BestFitPacker
from algpt2.preparation.encoding import EncodedSplit, PieceEncoder, SplitCounts
from algpt2.preparation.legacy_packing import LegacyPacker
from algpt2.preparation.packing import record_blocks
from algpt2.preparation.plan import Plan
from algpt2.preparation.sorted_documents import Documents, MergedFiles, SortedFile
from algpt2.preparation.token_stream import TokenStream
from algpt2.preparation.work_folder import WorkFolder
from algpt2.records.shard_writing import write_shard
from algpt2.storage.versions import versions_of
from algpt2.text.read_parts import require_versions
from algpt2.text.tokenizer import Tokenizer

BLOCK_RECORDS = 1024
Report = Callable[[int], Any]
"""Called with how many bytes, or records, are done since the last call."""


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
        encoded = self._encoder.encode(named.name, named.piece, report)
        require_versions(files, versions)
        self._folder.put_encoded_piece(named.name, encoded)

    def count_kept(self, split: str, first_bin: int, end_bin: int, report: Report) -> "KeptDocuments":
        """Returns what some bins of a split have without copies; `report` is called with bins done."""
        byte_lengths = self._tokenizer.token_byte_lengths()
        kept = KeptDocuments.none()
        for documents in self._files(split).bins(first_bin, end_bin):
            kept += KeptDocuments.of_bin(documents, byte_lengths)
            report(1)
        return kept

    def write(self, split: "PackedSplit", indices: Sequence[int], report: Report) -> None:
        """Writes some shards of a split, of ascending indices; `report` is called with records written."""
        byte_lengths = self._tokenizer.token_byte_lengths()
        blocks_of = self._blocks_of(self._files(split.name), split.bin_sizes)
        for index in indices:
            blocks = _reported(blocks_of(*split.shards.records(index)), report)
            path = storage.join(self._output, split.shards.name(split.name, index))
            self._folder.put_shard(self._plan, split.name, index, write_shard(path, blocks, byte_lengths))

    @functools.cached_property
    def _encoder(self) -> PieceEncoder:
        return PieceEncoder(self._tokenizer, self._plan.options, self._plan.layout, self._folder.path)

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
        names = [name for piece in self._encoded(split) for name in piece.files]
        copies = [self._copies.file(storage.join(self._folder.path, name)) for name in names]
        files = [SortedFile(copy, self._plan.layout) for copy in copies]
        return MergedFiles(files, self._plan.options.deduplicate)

    def _encoded(self, split: str) -> Iterator[EncodedSplit]:
        for named in self._plan.pieces:
            yield getattr(self._folder.encoded_piece(named.name), split)


@dataclasses.dataclass(frozen=True)
class KeptDocuments:
    """What is left of a range of bins without the copies: its counts, and how many ids, with EOS, each bin has."""

    counts: SplitCounts
    bin_sizes: np.ndarray

    @classmethod
    def none(cls) -> "KeptDocuments":
        """Returns those of no bins."""
        return cls(SplitCounts(), np.empty(0, np.int64))

    @classmethod
    def of_bin(cls, documents: Documents, byte_lengths: np.ndarray) -> "KeptDocuments":
        """Returns those of a bin's documents; a text is as long as the bytes that its ids spell."""
        text_bytes = int(byte_lengths[documents.ids].sum(dtype=np.int64))
        counts = SplitCounts(len(documents.lengths), text_bytes, len(documents.lengths) + len(documents.ids))
        return cls(counts, np.array([counts.input_tokens]))

    def __add__(self, other: "KeptDocuments") -> "KeptDocuments":
        return KeptDocuments(self.counts + other.counts, np.concatenate([self.bin_sizes, other.bin_sizes]))


@dataclasses.dataclass(frozen=True)
class PackedSplit:
    """A split whose records are to be written.

    Attributes:
      name: "train" or "val".
      shards: how its records are shared out.
      bin_sizes: how many ids, with EOS, each bin gives, int64 (bins,); None where that is what its files hold.
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
        return f"{split}-{index:05d}-of-{self.count:05d}.tfrecord"


def _until(numbered: Iterator[tuple[int, np.ndarray]], end: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields numbered records to before number `end`, and takes no more of them."""
    for number, record in numbered:
        yield number, record
        if number == end - 1:
            return


def _blocks(records: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    while block := list(itertools.islice(records, BLOCK_RECORDS)):
        yield np.stack(block)


def _reported(blocks: Iterator[np.ndarray], report: Report) -> Iterator[np.ndarray]:
    for block in blocks:
        yield block
        report(len(block))
