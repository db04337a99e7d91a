"""Documents of plain text, JSON lines and Parquet files, local or on `gs://`."""

import importlib.util
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.text.decompression import open_decompressed

COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst")
WHOLE_FILE_SUFFIXES = (".txt", ".raw")
LINES_SUFFIX = ".jsonl"
PARQUET_SUFFIX = ".parquet"
PARQUET_BATCH_ROWS = 1024
PACKAGE_OF_SUFFIX = {".zst": "zstandard", PARQUET_SUFFIX: "pyarrow"}


class Document(NamedTuple):
    """A text, and the same text as UTF-8, which is made once: to check it, to count its bytes and to hash it.

    domain: what kind of text it is, by the key that was asked for; else the file that it is in.
    """

    text: str
    utf8: bytes
    domain: str


class _Keys(NamedTuple):
    """Where a JSON object, or a row of Parquet, has its text and its domain; no domain means that of the file."""

    text: str
    domain: str | None


def iterate_documents(
    paths: Sequence[str],
    text_key: str = "text",
    on_bytes: Callable[[int], Any] | None = None,
    domain_key: str | None = None,
) -> Iterator[Document]:
    """Returns an iterator over the documents of files, folders and patterns, in the order given.

    A `.txt` or `.raw` file is one document; a `.jsonl` file holds one JSON object a line; these may be compressed
    (`.gz`, `.xz`, `.zst`); a `.parquet` file holds one document a row. Line ends are kept as they are. The empty
    string is a document.

    Args:
      paths: local or `gs://` files, folders (read recursively, sorted) or patterns.
      text_key: the JSON key, or Parquet column, of the text.
      on_bytes: called with the number of stored bytes read since the last call; `input_bytes` is their sum.
      domain_key: the JSON key, or Parquet column, of a document's domain; dots lead into objects, as in
        `meta.pile_set_name`. Without it, a document's domain is its file.

    Raises:
      UserError: at once for nothing at a path, an unknown suffix or a missing package; while iterating for content
        that is not whole, not UTF-8, not JSON objects, or has no text or no domain.
    """
    files = input_files(paths)
    return _documents_of_files(files, _Keys(text_key, domain_key), on_bytes or (lambda count: None))


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


def _documents_of_files(files: list[str], keys: _Keys, on_bytes: Callable[[int], Any]) -> Iterator[Document]:
    for file in files:
        with storage.of(file).open_read(file) as stored:
            yield from _documents_of_file(file, stored, keys, on_bytes)


def _documents_of_file(file: str, stored: BinaryIO, keys: _Keys, on_bytes: Callable[[int], Any]) -> Iterator[Document]:
    content, compression = _suffixes(file)
    if content == PARQUET_SUFFIX:
        yield from _documents_of_parquet(file, stored, keys)
        on_bytes(storage.of(file).size_bytes(file))
        return
    stream = io.BufferedReader(_Counted(stored, on_bytes))
    if compression:
        stream = open_decompressed(stream, compression, file)
    if content == LINES_SUFFIX:
        yield from _documents_of_lines(file, stream, keys)
    else:
        yield _document_of_text(file, stream.read(), keys)


def _document_of_text(file: str, utf8: bytes, keys: _Keys) -> Document:
    if keys.domain is not None:
        raise UserError(
            f"--domain_key {keys.domain} needs JSON objects or Parquet rows, and {file} is plain text: leave the flag "
            "out, or the file."
        )
    return Document(_decode(utf8, file, first_byte=0), utf8, file)


def _documents_of_lines(file: str, stream: BinaryIO, keys: _Keys) -> Iterator[Document]:
    first_byte = 0
    for number, line in enumerate(stream, start=1):
        if not line.strip() and not stream.read(1):
            return  # Many writers end a file with one empty line; it is no document.
        place = f"{file}, line {number}"
        yield _document(_fields_of_line(_decode(line, file, first_byte), place, keys), place, keys, file)
        first_byte += len(line)


def _fields_of_line(line: str, place: str, keys: _Keys) -> dict[str, Any]:
    try:
        fields = json_files.parse_object(line)
    except ValueError as error:
        raise UserError(f"every line must be a JSON object, and {place} is not ({error}): mend it.") from error
    if keys.text not in fields:
        raise UserError(
            f"every JSON object must have the key {keys.text!r}, and {place} has only {sorted(fields)}: "
            "name the key of the text with --text_key."
        )
    return fields


def _document(fields: dict[str, Any], place: str, keys: _Keys, file: str) -> Document:
    text = _require_string(fields[keys.text], keys.text, place)
    domain = file if keys.domain is None else _require_string(_value_at(fields, keys.domain), keys.domain, place)
    try:
        return Document(text, text.encode("utf-8"), domain)
    except UnicodeEncodeError as error:
        raise UserError(
            f"a text must be encodable as UTF-8, and in {place} character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}: mend it."
        ) from error


def _value_at(fields: dict[str, Any], dotted_key: str) -> Any:
    """({'meta': {'set': 'a'}}, 'meta.set') -> 'a'; None where there is none."""
    value: Any = fields
    for key in dotted_key.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _require_string(value: Any, key: str, place: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{key!r} must be a string, and in {place} it is a {type(value).__name__}: mend it.")
    return value


def _decode(data: bytes, file: str, first_byte: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"text must be UTF-8, and byte {first_byte + error.start} (from 0, decompressed) of {file} is not "
            f"({error.reason}): convert the file, for example with iconv."
        ) from error


def _documents_of_parquet(file: str, stored: BinaryIO, keys: _Keys) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet

    first_row = 1
    try:
        table = pyarrow.parquet.ParquetFile(stored)
        if keys.text not in table.schema_arrow.names:
            raise UserError(
                f"a Parquet file must have the column {keys.text!r}, and {file} has only {table.schema_arrow.names}: "
                "name the column of the text with --text_key."
            )
        columns = [keys.text] if keys.domain is None else [keys.text, keys.domain]
        for batch in table.iter_batches(PARQUET_BATCH_ROWS, columns=columns):
            for row, fields in enumerate(batch.to_pylist(), start=first_row):
                yield _document(fields, f"{file}, row {row}", keys, file)
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
