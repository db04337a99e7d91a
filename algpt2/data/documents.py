"""Documents of plain text, JSON lines and Parquet files, local or on `gs://`."""

import importlib.util
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from algpt2 import storage
from algpt2.data.decompression import open_decompressed
from algpt2.errors import UserError
from algpt2.storage import json_files

COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst")
WHOLE_FILE_SUFFIXES = (".txt", ".raw")
LINES_SUFFIX = ".jsonl"
PARQUET_SUFFIX = ".parquet"
PARQUET_BATCH_ROWS = 1024
PACKAGE_OF_SUFFIX = {".zst": "zstandard", PARQUET_SUFFIX: "pyarrow"}


class Document(NamedTuple):
    """A text, and the same text as UTF-8, which is made once: to check it, to count its bytes and to hash it."""

    text: str
    utf8: bytes


def iterate_documents(
    paths: Sequence[str], text_key: str = "text", on_bytes: Callable[[int], Any] | None = None
) -> Iterator[Document]:
    """Returns an iterator over the documents of files, folders and patterns, in the order given.

    A `.txt` or `.raw` file is one document; a `.jsonl` file holds one JSON object a line; these may be compressed
    (`.gz`, `.xz`, `.zst`); a `.parquet` file holds one document a row. Line ends are kept as they are. The empty
    string is a document.

    Args:
      paths: local or `gs://` files, folders (read recursively, sorted) or patterns.
      text_key: the JSON key, or Parquet column, of the text.
      on_bytes: called with the number of stored bytes read since the last call; `input_bytes` is their sum.

    Raises:
      UserError: at once for nothing at a path, an unknown suffix or a missing package; while iterating for content
        that is not whole, not UTF-8, not JSON objects, or has no text.
    """
    files = input_files(paths)
    return _documents_of_files(files, text_key, on_bytes or (lambda count: None))


def input_files(paths: Sequence[str]) -> list[str]:
    """Returns the files that `paths` name, in order, after checking that each one can be read as documents.

    Raises:
      UserError: nothing at a path, an unknown suffix, or a package that a format needs is not installed.
    """
    files = [file for path in paths for file in storage.expand(path)]
    for file in files:
        _check_suffix(file)
    return files


def input_bytes(paths: Sequence[str]) -> int:
    """Returns how many bytes the files hold as they are stored (compressed, if they are)."""
    return sum(storage.of(file).size_bytes(file) for file in input_files(paths))


def require_documents(documents: Iterable[Document]) -> Iterator[Document]:
    """Yields the documents; raises `UserError` if there is not one."""
    count = 0
    for count, document in enumerate(documents, start=1):  # noqa: B007
        yield document
    if count == 0:
        raise UserError("the input must hold at least one document and it holds none: name other files.")


def read_text_file(path: str) -> str:
    """Returns the text of one file, whatever its name ends in; line ends are kept as they are.

    Raises:
      UserError: no such file, nothing in it, or not UTF-8.
    """
    try:
        text = _decode(storage.read_bytes(path), path, first_byte=0)
    except FileNotFoundError as error:
        raise UserError(f"a text file must exist, and {path!r} is none: name another.") from error
    if not text:
        raise UserError(f"a text file must hold text, and {path} is empty: name another.")
    return text


def _suffixes(path: str) -> tuple[str, str]:
    """'a/b.jsonl.gz' -> ('.jsonl', '.gz'); 'a/b.txt' -> ('.txt', '')."""
    name = storage.base_name(path)
    compression = next((suffix for suffix in COMPRESSED_SUFFIXES if name.endswith(suffix)), "")
    dot = name.removesuffix(compression).rfind(".")
    return ("" if dot < 0 else name.removesuffix(compression)[dot:]), compression


def _check_suffix(file: str) -> None:
    content, compression = _suffixes(file)
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


def _documents_of_files(files: list[str], text_key: str, on_bytes: Callable[[int], Any]) -> Iterator[Document]:
    for file in files:
        with storage.of(file).open_read(file) as stored:
            yield from _documents_of_file(file, stored, text_key, on_bytes)


def _documents_of_file(
    file: str, stored: BinaryIO, text_key: str, on_bytes: Callable[[int], Any]
) -> Iterator[Document]:
    content, compression = _suffixes(file)
    if content == PARQUET_SUFFIX:
        yield from _documents_of_parquet(file, stored, text_key)
        on_bytes(storage.of(file).size_bytes(file))
        return
    stream = io.BufferedReader(_Counted(stored, on_bytes))
    if compression:
        stream = open_decompressed(stream, compression, file)
    if content == LINES_SUFFIX:
        yield from _documents_of_lines(file, stream, text_key)
    else:
        utf8 = stream.read()
        yield Document(_decode(utf8, file, first_byte=0), utf8)


def _documents_of_lines(file: str, stream: BinaryIO, text_key: str) -> Iterator[Document]:
    first_byte = 0
    for number, line in enumerate(stream, start=1):
        if not line.strip() and not stream.read(1):
            return  # Many writers end a file with one empty line; it is no document.
        yield _document_of_line(_decode(line, file, first_byte), f"{file}, line {number}", text_key)
        first_byte += len(line)


def _document_of_line(line: str, place: str, text_key: str) -> Document:
    try:
        fields = json_files.parse_object(line)
    except ValueError as error:
        raise UserError(f"every line must be a JSON object, and {place} is not ({error}): mend it.") from error
    if text_key not in fields:
        raise UserError(
            f"every JSON object must have the key {text_key!r}, and {place} has only {sorted(fields)}: "
            "name the key of the text with --text_key."
        )
    return _document(fields[text_key], place, text_key)


def _document(text: Any, place: str, text_key: str) -> Document:
    if not isinstance(text, str):
        raise UserError(f"{text_key!r} must be a string, and in {place} it is a {type(text).__name__}: mend it.")
    try:
        return Document(text, text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise UserError(
            f"a text must be encodable as UTF-8, and in {place} character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}: mend it."
        ) from error


def _decode(data: bytes, file: str, first_byte: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"text must be UTF-8, and byte {first_byte + error.start} (from 0, decompressed) of {file} is not "
            f"({error.reason}): convert the file, for example with iconv."
        ) from error


def _documents_of_parquet(file: str, stored: BinaryIO, text_key: str) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    first_row = 1
    try:
        table = pyarrow.parquet.ParquetFile(stored)
        if text_key not in table.schema_arrow.names:
            raise UserError(
                f"a Parquet file must have the column {text_key!r}, and {file} has only {table.schema_arrow.names}: "
                "name the column of the text with --text_key."
            )
        for batch in table.iter_batches(PARQUET_BATCH_ROWS, columns=[text_key]):
            for row, text in enumerate(batch.column(0).to_pylist(), start=first_row):
                yield _document(text, f"{file}, row {row}", text_key)
            first_row += batch.num_rows
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a whole Parquet file of UTF-8 text ({error}): make it again.") from error


class _Counted(io.RawIOBase):
    """A stream that reports how many bytes are read from it."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], Any]):
        self._stream = stream
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        size = self._stream.readinto(buffer)
        self._on_bytes(size)
        return size
