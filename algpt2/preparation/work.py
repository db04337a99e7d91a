"""The two kinds of work of a preparation, which any process can do for any part: encode a piece, and write shards."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import LEGACY_PACKING
from algpt2.preparation.encoding import EncodedSplit, PieceEncoder
from algpt2.preparation.legacy_packing import LegacyPacker
from algpt2.preparation.packing import record_blocks
from algpt2.preparation.plan import Plan
from algpt2.preparation.sorted_documents import SortedFile, merged_bins
from algpt2.preparation.token_stream import TokenStream
from algpt2.preparation.work_folder import WorkFolder
from algpt2.records.shard_writing import write_shard
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
        encoder = PieceEncoder(self._tokenizer, self._plan.options, self._plan.layout, self._folder.path)
        named = self._plan.pieces[number]
        self._folder.put_encoded_piece(named.name, encoder.encode(named.name, named.piece, report))

    def write(self, split: str, shards: "Shards", indices: Sequence[int], report: Report) -> None:
        """Writes some shards of a split, of ascending indices; `report` is called with records written."""
        byte_lengths = self._tokenizer.token_byte_lengths()
        with self._opened(split) as files:
            blocks_of = self._blocks_of(files)
            for index in indices:
                blocks = _reported(blocks_of(*shards.records(index)), report)
                path = storage.join(self._output, shards.name(split, index))
                self._folder.put_shard(self._plan, split, index, write_shard(path, blocks, byte_lengths))

    def legacy_losses(self, split: str) -> tuple[int, int, int]:
        """Returns the records that the packing of 2020 makes of a split, the tokens it loses, and its false EOS."""
        with self._opened(split) as files:
            packer = self._legacy_packer()
            records = sum(len(records) for records in map(packer.add, self._documents(files)))
        return records, packer.lost_tokens, packer.false_eos

    def _blocks_of(self, files: list[SortedFile]) -> Callable[[int, int], Iterator[np.ndarray]]:
        """Returns what gives the records from one to before another; legacy ones once, in ascending order."""
        seq_len = self._plan.options.seq_len
        if self._plan.options.packing != LEGACY_PACKING:
            stream = TokenStream(files, self._tokenizer.eos_id)
            return lambda first, end: record_blocks(stream.read(first * seq_len, end * seq_len + 1), seq_len)
        records = enumerate(itertools.chain.from_iterable(map(self._legacy_packer().add, self._documents(files))))
        return lambda first, end: _blocks(record for number, record in _until(records, end) if number >= first)

    def _legacy_packer(self) -> LegacyPacker:
        return LegacyPacker(self._plan.options.seq_len, self._tokenizer.eos_id)

    def _documents(self, files: list[SortedFile]) -> Iterator[np.ndarray]:
        for documents in merged_bins(files, 0, self._plan.layout.bins):
            ends = np.cumsum(documents.lengths, dtype=np.int64)
            yield from (documents.ids[end - size : end] for end, size in zip(ends, documents.lengths, strict=True))

    @contextlib.contextmanager
    def _opened(self, split: str) -> Iterator[list[SortedFile]]:
        with contextlib.ExitStack() as stack:
            names = [name for piece in self._encoded(split) for name in piece.files]
            copies = [self._copies.file(storage.join(self._folder.path, name)) for name in names]
            yield [stack.enter_context(SortedFile(copy, self._plan.layout)) for copy in copies]

    def _encoded(self, split: str) -> Iterator[EncodedSplit]:
        for named in self._plan.pieces:
            yield getattr(self._folder.encoded_piece(named.name), split)


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
