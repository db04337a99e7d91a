"""Documents of plain text, JSON lines and Parquet files, local or on `gs://`."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.text import faults
from algpt2.text.decompression import open_decompressed
from algpt2.text.faults import InputFault, OnFault, kept
from algpt2.text.input_files import LINES_SUFFIX, PARQUET_SUFFIX, InputFile, Piece, sized_input_files, suffixes
from algpt2.text.lines import without_last_empty
from algpt2.text.long_texts import require_breaks
from algpt2.text.read_parts import PartStream, ReadPart
from algpt2.text.separator import Separator

PARQUET_BATCH_ROWS = 1024
READ_BYTES = 1 << 18
NO_DOCUMENT = "the input must hold at least one document and it holds none: name other files."


class Document(NamedTuple):
    """A text, and the same text as UTF-8, which is made once: to check it, to count its bytes and to hash it.

    domain: what kind of text it is, by the key that was asked for; else the file that it is in.
    """

    text: str
    utf8: bytes
    domain: str


class Keys(NamedTuple):
    """What tells documents and their text.

    text: the JSON key, or Parquet column, of the text.
    domain: that of a document's domain; dots lead into objects, as in `meta.pile_set_name`. None means that each file
      is one.
    separator: what stands between the documents of a plain text file; None means that it is one document.
    """

    text: str = "text"
    domain: str | None = None
    separator: Separator | None = None


DEFAULT_KEYS = Keys()


class _Place(NamedTuple):
    """Where a document begins: a line or a row by its number, or by the byte where the numbers are not known."""

    file: str
    unit: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}"


def iterate_documents(
    paths: Sequence[str], keys: Keys = DEFAULT_KEYS, on_bytes: Callable[[int], Any] | None = None
) -> Iterator[Document]:
    """Returns an iterator over the documents of files, folders and patterns, in the order given.

    A `.txt` or `.raw` file is one document, or those between which the separator stands; a `.jsonl` file holds one JSON
    object a line; these may be compressed (`.gz`, `.xz`, `.zst`); a `.parquet` file holds one document a row. Line ends
    are kept as they are. The empty string is a document.

    Args:
      paths: local or `gs://` files, folders (read recursively, sorted) or patterns.
      keys: what tells documents and their text.
      on_bytes: called with the number of stored bytes read since the last call; `input_bytes` is their sum.

    Raises:
      UserError: at once for nothing at a path, an unknown suffix or a missing package; while iterating for content
        that is not whole, not UTF-8, not JSON objects, or has no text or no domain.
    """
    everything = Piece(tuple(sized_input_files(paths)))
    return documents_of_piece(everything, keys, on_bytes or (lambda count: None))


def documents_of_piece(
    piece: Piece,
    keys: Keys,
    on_bytes: Callable[[int], Any],
    on_fault: OnFault | None = None,
    on_read: Callable[[ReadPart], Any] | None = None,
) -> Iterator[Document]:
    """Yields the documents of a piece of the input.

    Args:
      piece: files, or a range of bytes of one, of which it has the documents that begin there.
      keys: what tells documents and their text.
      on_bytes: called with the number of stored bytes read since the last call.
      on_fault: called with what is no document, which is then left out; None means that it is raised.
      on_read: called with what was read of each file, which is then read to its end, or to that of the range.

    Raises:
      UserError: content that is not whole, not UTF-8, not JSON objects, or has no text or no domain, where there is no
        `on_fault`; a column or a flag that does not fit the files; with `on_read`, a file that is shorter than it was.
    """
    for file in piece.files:
        documents = 0
        with storage.of(file.path).open_read(file.path) as stored:
            part = PartStream(stored, piece.first_byte, piece.end_byte, on_bytes)
            try:
                for document in _documents_of_part(piece, file, part, keys, on_fault):
                    documents += 1
                    yield document
            except InputFault as fault:  # The rest of the file cannot be read.
                if on_fault is None:
                    raise
                on_fault(fault)
            if on_read:
                on_read(part.finish(file.path, documents))
            else:
                on_bytes(max(0, (piece.end_byte or file.size_bytes) - piece.first_byte - part.counted_bytes))


def require_documents(documents: Iterable[Document], otherwise: str = NO_DOCUMENT) -> Iterator[Document]:
    """Yields the documents; raises `UserError` with the sentence `otherwise` if there is not one."""
    count = 0
    for count, document in enumerate(documents, start=1):  # noqa: B007
        yield document
    if count == 0:
        raise UserError(otherwise)


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


def _documents_of_part(
    piece: Piece, file: InputFile, part: PartStream, keys: Keys, on_fault: OnFault | None
) -> Iterator[Document]:
    if piece.end_byte is None:
        return _documents_of_file(file, part, keys, on_fault)
    return _documents_of_range(piece, io.BufferedReader(part, READ_BYTES), keys, on_fault)


def _documents_of_file(file: InputFile, part: PartStream, keys: Keys, on_fault: OnFault | None) -> Iterator[Document]:
    content, compression = suffixes(file.path)
    if content == PARQUET_SUFFIX:
        yield from _documents_of_parquet(file.path, part, keys, on_fault)
        return
    stream = io.BufferedReader(part, READ_BYTES)
    if compression:
        stream = open_decompressed(stream, compression, file.path)
    if content == LINES_SUFFIX:
        yield from _documents_of_lines(file.path, stream, keys, on_fault)
    else:
        parts = keys.separator.parts(stream, 0) if keys.separator else [(0, stream.read())]
        for part in parts:
            yield from kept(on_fault, _document_of_text, file.path, *part, keys)


def _document_of_text(file: str, first_byte: int, utf8: bytes, keys: Keys) -> Document:
    if keys.domain is not None:
        raise UserError(
            f"--domain_key {keys.domain} needs JSON objects or Parquet rows, and {file} is plain text: leave the flag "
            "out, or the file."
        )
    text = _decode(utf8, file, first_byte)
    require_breaks(text, file, f"the text at byte {first_byte} of {file}")
    return Document(text, utf8, file)


def _documents_of_lines(file: str, stream: BinaryIO, keys: Keys, on_fault: OnFault | None) -> Iterator[Document]:
    first_byte = 0
    for number, line in enumerate(without_last_empty(stream), start=1):
        yield from kept(on_fault, _document_of_line, line, first_byte, _Place(file, "line", number), keys)
        first_byte += len(line)


def _documents_of_range(piece: Piece, stream: BinaryIO, keys: Keys, on_fault: OnFault | None) -> Iterator[Document]:
    """Yields the documents that begin in a range; the last may go on behind it."""
    (file,) = piece.files
    if suffixes(file.path)[0] == LINES_SUFFIX:
        for line in _lines_of_range(file, piece, stream):
            yield from kept(on_fault, _document_of_line, *line, keys)
        return
    first_byte = keys.separator.first_part(stream, piece.first_byte)
    stream.seek(first_byte)
    for part in keys.separator.parts(stream, first_byte):
        if part[0] >= piece.end_byte:
            return
        yield from kept(on_fault, _document_of_text, file.path, *part, keys)


def _lines_of_range(file: InputFile, piece: Piece, stream: BinaryIO) -> Iterator[tuple[bytes, int, _Place]]:
    first_byte = _first_line(piece, stream)
    while first_byte < piece.end_byte and (line := stream.readline()):
        if not line.strip() and not stream.peek(1):
            return
        yield line, first_byte, _Place(file.path, "the line that begins at byte", first_byte)
        first_byte += len(line)


def _first_line(piece: Piece, stream: BinaryIO) -> int:
    """Returns where the first line begins that begins in a range, or a byte behind the range; moves the stream there.

    A line that began before is not kept, because it may be longer than memory should hold.
    """
    if piece.first_byte == 0:
        return 0
    place = piece.first_byte - 1  # Unless this byte ends a line, it is in one that belongs to the range before.
    stream.seek(place)
    while place < piece.end_byte and (part := stream.readline(READ_BYTES)):
        place += len(part)
        if part.endswith(b"\n"):
            break
    return place


def _document_of_line(line: bytes, first_byte: int, place: _Place, keys: Keys) -> Document:
    return _document(_fields_of_line(_decode(line, place.file, first_byte), place, keys), place, keys)


def _fields_of_line(line: str, place: _Place, keys: Keys) -> dict[str, Any]:
    try:
        fields = json_files.parse_object(line)
    except ValueError as error:
        sentence = f"every line must be a JSON object, and {place} is not ({error}): mend it."
        raise InputFault(faults.NOT_JSON, place.file, sentence) from error
    if keys.text not in fields:
        raise InputFault(
            faults.WITHOUT_TEXT,
            place.file,
            f"every JSON object must have the key {keys.text!r}, and {place} has only {sorted(fields)}: "
            "name the key of the text with --text_key.",
        )
    return fields


def _document(fields: dict[str, Any], place: _Place, keys: Keys) -> Document:
    text = _require_string(fields[keys.text], keys.text, place)
    require_breaks(text, place.file, str(place))
    domain = place.file if keys.domain is None else _require_string(_value_at(fields, keys.domain), keys.domain, place)
    try:
        return Document(text, text.encode("utf-8"), domain)
    except UnicodeEncodeError as error:
        raise InputFault(
            faults.LONE_SURROGATE,
            place.file,
            f"a text must be encodable as UTF-8, and in {place} character {error.start} is the lone surrogate "
            f"U+{ord(text[error.start]):04X}: mend it.",
        ) from error


def _value_at(fields: dict[str, Any], dotted_key: str) -> Any:
    """({'meta': {'set': 'a'}}, 'meta.set') -> 'a'; None where there is none."""
    value: Any = fields
    for key in dotted_key.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _require_string(value: Any, key: str, place: _Place) -> str:
    if not isinstance(value, str):
        sentence = f"{key!r} must be a string, and in {place} it is a {type(value).__name__}: mend it."
        raise InputFault(faults.WITHOUT_TEXT, place.file, sentence)
    return value


def _decode(data: bytes, file: str, first_byte: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputFault(
            faults.NOT_UTF8,
            file,
            f"text must be UTF-8, and byte {first_byte + error.start} (from 0, decompressed) of {file} is not "
            f"({error.reason}): convert the file, for example with iconv.",
        ) from error


def _documents_of_parquet(file: str, stored: BinaryIO, keys: Keys, on_fault: OnFault | None) -> Iterator[Document]:
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
                yield from kept(on_fault, _document, fields, _Place(file, "row", row), keys)
            first_row += batch.num_rows
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        sentence = f"{file} is not a whole Parquet file of UTF-8 text ({error}): make it again."
        raise InputFault(faults.DAMAGED_FILE, file, sentence) from error
