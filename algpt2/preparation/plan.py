"""What a preparation has to do, as data: the same input, tokenizer and options always give the same plan."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from algpt2.config.options import require
from algpt2.config.records import RecordOptions
from algpt2.errors import UserError, shown
from algpt2.preparation.sorted_documents import Layout
from algpt2.records.record_bytes import id_dtype
from algpt2.storage.versions import Version, versions_of
from algpt2.text.documents import Keys
from algpt2.text.input_files import InputFile, Piece, pieces, sized_input_files
from algpt2.text.separator import Separator

LEAST_PIECE_BYTES = 1 << 20
MOST_PIECE_BYTES = 1 << 23
PIECES_OF_SMALL_INPUT = 16
MOST_PIECES = 1 << 12
BIN_BYTES = 1 << 23
MOST_BIN_BITS = 14
# Of the text's bytes; the study's corpus has 3.2 bytes a token, and GPT-2's vocabulary 4 and more for English.
TOKENS_PER_BYTE = 1 / 3
BYTES_PER_COMPRESSED_BYTE = 4
NAME_BYTES = 12


@dataclasses.dataclass(frozen=True)
class Command:
    """What was asked for; JSON on disk. Work of the same command is gone on with.

    Attributes:
      inputs: files, folders and patterns, as they were given.
      tokenizer_sha256: of the tokenizer.
      options: of the records.
    """

    inputs: tuple[str, ...]
    tokenizer_sha256: str
    options: RecordOptions


@dataclasses.dataclass(frozen=True)
class Part:
    """The part of the pieces that one of several machines encodes.

    Attributes:
      index: of the machine, from 0.
      count: of the machines.

    Raises:
      UserError: the index is none of them.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        require(0 <= self.index < self.count, "shard", "i/n with i from 0 to n - 1", str(self))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Returns '3/16' as a part; raises `UserError` for another text."""
        index, _, count = text.partition("/")
        if not all(number.isascii() and number.isdigit() for number in (index, count)):
            raise UserError(
                f"shard must be i/n with i from 0 to n - 1, received {shown(text)}: 0/4 is the first of four."
            )
        return cls(int(index), int(count))


@dataclasses.dataclass(frozen=True)
class NamedPiece:
    """A piece of the input.

    Attributes:
      name: which no other content and no other encoding has.
      piece: of the input.
      versions: of its files, by which they are told from changed ones.
    """

    name: str
    piece: Piece
    versions: tuple[Version, ...]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The pieces of the input, and how they are encoded.

    Attributes:
      command: what was asked for.
      pieces: of the input.
      layout: of the sorted files.
      of_many_machines: whether files on a disk are told by path and size alone.
    """

    command: Command
    pieces: tuple[NamedPiece, ...]
    layout: Layout
    of_many_machines: bool = False

    @property
    def name(self) -> str:
        """A hash of all pieces' names, that no plan with other documents has."""
        return _hash([one.name for one in self.pieces])

    @property
    def options(self) -> RecordOptions:
        """Those of the records."""
        return self.command.options

    @property
    def expected_tokens(self) -> float:
        """About how many tokens the documents have, from the bytes of the input."""
        return sum(_text_bytes(one.piece) for one in self.pieces) * TOKENS_PER_BYTE

    @property
    def files(self) -> list[InputFile]:
        """The files of the input, in its order; a file that is read in pieces is there once."""
        return [file for one in self.pieces for file in one.piece.files if one.piece.first_byte == 0]

    @property
    def told_versions(self) -> dict[str, Version]:
        """The paths of the files, each with that by which it is told from a changed one, on any of the machines."""
        return {
            file.path: version
            for one in self.pieces
            for file, version in zip(one.piece.files, one.versions, strict=True)
        }

    @property
    def input_bytes(self) -> int:
        """How many stored bytes the input has."""
        return sum(one.piece.size_bytes for one in self.pieces)


def make_plan(command: Command, vocab_size: int, of_many_machines: bool = False) -> Plan:
    """Returns the plan of a command.

    Args:
      command: what was asked for.
      vocab_size: of the tokenizer.
      of_many_machines: whether files on a disk are told by path and size alone, because each machine may have a copy of
        its own; else by the time of their last change too.

    Raises:
      UserError: nothing at a path, an unknown suffix, or a package that a format needs is not installed.
    """
    files = sized_input_files(command.inputs)
    tokens = _text_bytes(Piece(tuple(files))) * TOKENS_PER_BYTE
    dtype = id_dtype(vocab_size)
    bin_bits = min(MOST_BIN_BITS, math.ceil(math.log2(max(1.0, tokens * dtype.itemsize / BIN_BYTES))))
    found = [(file.size_bytes,) for file in files] if of_many_machines else versions_of([file.path for file in files])
    versions = dict(zip(files, found, strict=True))
    piece_bytes = _piece_bytes(sum(file.size_bytes for file in files))
    cut = pieces(files, piece_bytes, keys_of(command.options).separator)
    named = (
        NamedPiece(_name(piece, versions, command, bin_bits), piece, tuple(versions[file] for file in piece.files))
        for piece in cut
    )
    return Plan(command, tuple(named), Layout(bin_bits, dtype), of_many_machines)


def keys_of(options: RecordOptions) -> Keys:
    """Returns what tells the documents of the input.

    Raises:
      UserError: the separator of documents is none.
    """
    return Keys(options.text_key, separator=Separator.of(options.document_separator))


def _name(piece: Piece, versions: Mapping[InputFile, Version], command: Command, bin_bits: int) -> str:
    """Returns a hash of all that an encoded piece depends on: another seq_len or number of shards changes nothing."""
    options = command.options
    encoding = [command.tokenizer_sha256, options.text_key, options.seed, options.val_fraction, bin_bits]
    encoding += [options.document_separator, options.on_error]
    content = [dataclasses.asdict(piece), [versions[file] for file in piece.files], encoding]
    return _hash(content)


def _hash(content: Any) -> str:
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=NAME_BYTES).hexdigest()


def _piece_bytes(total: int) -> int:
    wanted = max(total // PIECES_OF_SMALL_INPUT, LEAST_PIECE_BYTES)
    return max(min(wanted, MOST_PIECE_BYTES), -(-total // MOST_PIECES))


def _text_bytes(piece: Piece) -> int:
    """Returns about how many bytes a piece's text has; a part of a file is not compressed."""
    if piece.end_byte is not None:
        return piece.size_bytes
    return sum(file.size_bytes * (BYTES_PER_COMPRESSED_BYTE if file.is_compressed else 1) for file in piece.files)
