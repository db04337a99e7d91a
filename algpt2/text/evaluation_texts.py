"""The texts of an evaluation's files, whatever their keys are called."""

import hashlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.text.decompression import open_decompressed
from algpt2.text.input_files import LINES_SUFFIX, PARQUET_SUFFIX, suffixes


def sha256_and_texts(path: str) -> tuple[str, Iterator[str]]:
    """Returns the SHA-256 of a file's bytes, in hexadecimal, and an iterator over the texts in just these bytes.

    A `.txt` or `.raw` file is one text; in a `.jsonl` or `.parquet` file each string of each object or row is one,
    however deep it stands in it and whatever its key is.

    Args:
      path: local or `gs://`, one that `input_files` takes. It is held in memory.

    Raises:
      UserError: while iterating, for content that is not whole, not UTF-8 or not JSON objects.
    """
    data = storage.read_bytes(path)
    return hashlib.sha256(data).hexdigest(), _texts(path, data)


def _texts(path: str, data: bytes) -> Iterator[str]:
    content, compression = suffixes(path)
    if content == PARQUET_SUFFIX:
        yield from _texts_of_rows(path, data)
        return
    stream: BinaryIO = io.BytesIO(data)
    if compression:
        stream = open_decompressed(stream, compression, path)
    if content == LINES_SUFFIX:
        yield from _texts_of_lines(path, stream)
        return
    try:
        yield stream.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"text must be UTF-8, and {path} is not ({error.reason}): convert it.") from error


def _texts_of_lines(path: str, stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            fields = json_files.parse_object(line)
        except ValueError as error:
            sentence = f"every line must be a JSON object, and {path}, line {number} is not ({error}): mend it."
            raise UserError(sentence) from error
        yield from _strings(fields)


def _texts_of_rows(path: str, data: bytes) -> Iterator[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        for batch in pyarrow.parquet.ParquetFile(io.BytesIO(data)).iter_batches():
            yield from _strings(batch.to_pylist())
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a whole Parquet file ({error}): make it again.") from error


def _strings(value: Any) -> Iterator[str]:
    """{'a': 'one', 'b': ['two', {'c': 'three'}, 4]} -> 'one', 'two', 'three'."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
