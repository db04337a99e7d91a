"""Which files the input is, and the pieces that it is read in, each by itself and in any order."""

import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage.parallel import in_parallel
from algpt2.text.separator import Separator

COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst")
WHOLE_FILE_SUFFIXES = (".txt", ".raw")
LINES_SUFFIX = ".jsonl"
PARQUET_SUFFIX = ".parquet"
PACKAGE_OF_SUFFIX = {".zst": "zstandard", PARQUET_SUFFIX: "pyarrow"}


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file of documents, and how many bytes it holds as it is stored (compressed, if it is)."""

    path: str
    size_bytes: int

    @property
    def is_compressed(self) -> bool:
        """Whether its bytes are fewer than its text's; Parquet compresses within."""
        content, compression = suffixes(self.path)
        return bool(compression) or content == PARQUET_SUFFIX

    def can_be_cut(self, separator: Separator | None) -> bool:
        """Returns whether documents can be found from any byte on: not in a compressed file.

        Lines can, and plain text whose documents have a separator between them that can be found so.
        """
        content, compression = suffixes(self.path)
        if content in WHOLE_FILE_SUFFIXES:
            return not compression and separator is not None and separator.can_be_found_from_anywhere
        return (content, compression) == (LINES_SUFFIX, "")


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of the input that is read by itself: whole files, or what begins in a range of bytes of one.

    Attributes:
      files: one or more.
      first_byte: where the range begins; 0 for whole files.
      end_byte: where it ends; None for whole files.
    """

    files: tuple[InputFile, ...]
    first_byte: int = 0
    end_byte: int | None = None

    @property
    def size_bytes(self) -> int:
        """How many stored bytes it has."""
        whole = sum(file.size_bytes for file in self.files)
        return whole if self.end_byte is None else self.end_byte - self.first_byte


def input_files(paths: Sequence[str]) -> list[str]:
    """Returns the files that `paths` name, in order, after checking that each one can be read as documents.

    Raises:
      UserError: nothing at a path, an unknown suffix, or a package that a format needs is not installed.
    """
    files = [file for path in paths for file in storage.expand(path)]
    for file in files:
        _check_suffix(file)
    return files


def sized_input_files(paths: Sequence[str]) -> list[InputFile]:
    """Returns the files that `paths` name, with their sizes; it raises what `input_files` raises."""
    files = input_files(paths)
    sizes = in_parallel(lambda file: storage.of(file).size_bytes(file), files)
    return [InputFile(file, size) for file, size in zip(files, sizes, strict=True)]


def input_bytes(paths: Sequence[str]) -> int:
    """Returns how many bytes the files hold as they are stored (compressed, if they are)."""
    return sum(file.size_bytes for file in sized_input_files(paths))


def pieces(files: Sequence[InputFile], piece_bytes: int, separator: Separator | None = None) -> Iterator[Piece]:
    """Yields pieces of about `piece_bytes` stored bytes that hold every document once, in the order of the files.

    A file that cannot be cut is in one piece, however large; small files share one. `separator` stands between the
    documents of plain text files; None means that each is one document.
    """
    together: list[InputFile] = []
    size_bytes = 0
    for file in files:
        is_cut = file.can_be_cut(separator) and file.size_bytes > piece_bytes
        if together and (is_cut or size_bytes + file.size_bytes > piece_bytes):
            yield Piece(tuple(together))
            together, size_bytes = [], 0
        if is_cut:
            yield from _ranges(file, piece_bytes)
        else:
            together.append(file)
            size_bytes += file.size_bytes
    if together:
        yield Piece(tuple(together))


def suffixes(path: str) -> tuple[str, str]:
    """'a/b.jsonl.gz' -> ('.jsonl', '.gz'); 'a/b.txt' -> ('.txt', '')."""
    name = storage.base_name(path)
    compression = next((suffix for suffix in COMPRESSED_SUFFIXES if name.endswith(suffix)), "")
    dot = name.removesuffix(compression).rfind(".")
    return ("" if dot < 0 else name.removesuffix(compression)[dot:]), compression


def _ranges(file: InputFile, piece_bytes: int) -> Iterator[Piece]:
    count = -(-file.size_bytes // piece_bytes)
    bounds = [file.size_bytes * place // count for place in range(count + 1)]
    for first, end in zip(bounds, bounds[1:], strict=False):
        yield Piece((file,), first, end)


def _check_suffix(file: str) -> None:
    content, compression = suffixes(file)
    if not (content in (*WHOLE_FILE_SUFFIXES, LINES_SUFFIX) or (content == PARQUET_SUFFIX and not compression)):
        raise UserError(
            f"an input file must end in {', '.join(WHOLE_FILE_SUFFIXES)} or {LINES_SUFFIX}, optionally followed by "
            f"{', '.join(COMPRESSED_SUFFIXES)}, or in {PARQUET_SUFFIX}, and {file} does not: rename or leave it out."
        )
    package = PACKAGE_OF_SUFFIX.get(compression or content)
    if package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"reading {file} needs the package {package}, which is not installed: run `pip install 'algpt2[formats]'`."
        )
