"""Streams of gzip, xz and Zstandard files that notice a file cut short.

Python's own readers differ in what they do at an early end of file (Zstandard's returns what it has), so the three
formats share one reader over the decompressor objects, whose interface is the same.
"""

import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

from algpt2.errors import UserError
from algpt2.text.faults import DAMAGED_FILE, InputFault

BLOCK_BYTES = 1 << 16
GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


def open_decompressed(stream: BinaryIO, suffix: str, name: str) -> BinaryIO:
    """Returns a binary stream of the decompressed content.

    Args:
      stream: the compressed bytes.
      suffix: `.gz`, `.xz` or `.zst`.
      name: the file's name, for error messages.

    Raises:
      UserError: `.zst` without the `zstandard` package; later, while reading, a truncated or corrupt file.
    """
    new_decompressor, errors = _format(suffix)
    return io.BufferedReader(_Decompressed(stream, new_decompressor, errors, name), BLOCK_BYTES)


def _format(suffix: str) -> tuple[Callable[[], Any], tuple[type[Exception], ...]]:
    if suffix == ".gz":
        return lambda: zlib.decompressobj(GZIP_WINDOW_BITS), (zlib.error,)
    if suffix == ".xz":
        return lzma.LZMADecompressor, (lzma.LZMAError,)
    zstandard = _zstandard()
    return lambda: zstandard.ZstdDecompressor().decompressobj(), (zstandard.ZstdError,)


def _zstandard() -> Any:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise UserError(
            "a .zst file needs the package zstandard, which is not installed: run `pip install 'algpt2[formats]'`."
        ) from error
    return zstandard


class _Decompressed(io.RawIOBase):
    """The content of one or more compressed members, one after the other, as all three formats allow."""

    def __init__(self, stream: BinaryIO, new_decompressor: Callable, errors: tuple[type[Exception], ...], name: str):
        self._stream = stream
        self._new_decompressor = new_decompressor
        self._errors = errors
        self._name = name
        self._decompressor = new_decompressor()
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._content:
            compressed = self._next_compressed()
            if not compressed:
                return 0
            self._content = memoryview(self._decompress(compressed))
        size = min(len(buffer), len(self._content))
        buffer[:size] = self._content[:size]
        self._content = self._content[size:]
        return size

    def _next_compressed(self) -> bytes:
        """Returns the next compressed bytes, starting another member where one has ended; b"" at the end."""
        if not self._decompressor.eof:
            return self._stream.read(BLOCK_BYTES) or self._fail("it ends too early")
        compressed = self._skip_padding(self._decompressor.unused_data)
        if compressed:
            self._decompressor = self._new_decompressor()
        return compressed

    def _skip_padding(self, compressed: bytes) -> bytes:
        """Returns the next bytes that are no padding: gzip and xz allow zero bytes after a member."""
        compressed = compressed.lstrip(b"\0")
        while not compressed and (block := self._stream.read(BLOCK_BYTES)):
            compressed = block.lstrip(b"\0")
        return compressed

    def _decompress(self, compressed: bytes) -> bytes:
        try:
            return self._decompressor.decompress(compressed)
        except self._errors as error:
            return self._fail(str(error))

    def _fail(self, reason: str) -> bytes:
        sentence = f"a compressed input must be whole, and {self._name} is not ({reason}): fetch or make it again."
        raise InputFault(DAMAGED_FILE, self._name, sentence)
