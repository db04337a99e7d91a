"""What was read of the input's files, told by checksums of their stored bytes that are taken while they are read."""

import dataclasses
import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO

import google_crc32c

from algpt2.errors import UserError
from algpt2.storage import crc32c
from algpt2.storage.versions import Version, versions_of

REST_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class ReadPart:
    """What was read of a file, or of a range of its bytes. JSON on disk.

    Attributes:
      path: of the file.
      first_byte: where the range begins; 0 for a whole file.
      size_bytes: how many stored bytes it has; of a compressed file, these are the compressed ones.
      crc32c: of them, eight hexadecimal digits.
      documents: how many documents begin in it, without what was skipped.
    """

    path: str
    first_byte: int
    size_bytes: int
    crc32c: str
    documents: int


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of the input as it was read. JSON on disk.

    Attributes:
      path: of the file.
      size_bytes: how many stored bytes it has; of a compressed file, these are the compressed ones.
      crc32c: of them, eight hexadecimal digits; Cloud Storage keeps the same of an object.
      documents: how many documents it has, copies counted, and without what was skipped.
    """

    path: str
    size_bytes: int
    crc32c: str
    documents: int


def sources_of(parts: Iterable[ReadPart]) -> list[Source]:
    """Returns the files of parts that stand in the order of the input, each file's in the order of its bytes."""
    found: list[Source] = []
    for part in parts:
        whole = Source(part.path, part.size_bytes, part.crc32c, part.documents)
        if part.first_byte:
            before = found.pop()
            checksum = crc32c.joined(before.crc32c, part.crc32c, part.size_bytes)
            whole = Source(part.path, before.size_bytes + part.size_bytes, checksum, before.documents + part.documents)
        found.append(whole)
    return found


class PartStream(io.RawIOBase):
    """A file that is read, and the checksum of the bytes of a part of it, each of which counts once.

    What reads it may go back and read bytes again. It reports how many bytes of the part are read since the last time.
    """

    def __init__(self, stream: BinaryIO, first_byte: int, end_byte: int | None, on_bytes: Callable[[int], Any]):
        """Takes the file, where the part begins and ends, None for the file's own end, and what it reports to."""
        self._stream = stream
        self._first_byte = first_byte
        self._end_byte = end_byte
        self._on_bytes = on_bytes
        self._place = 0
        self._counted_to = first_byte
        self._checksum = google_crc32c.Checksum()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = self._stream.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        size = self._stream.readinto(buffer)
        self._count(memoryview(buffer)[:size])
        self._place += size
        return size

    @property
    def counted_bytes(self) -> int:
        """How many bytes of the part are read."""
        return self._counted_to - self._first_byte

    def finish(self, path: str, documents: int) -> ReadPart:
        """Reads what is left of the part, which only something at fault leaves, and returns what was read of it.

        Raises:
          UserError: the file ends in front of the part's end, so it is not the file that the part was cut from.
        """
        if self._place != self._counted_to:
            self.seek(self._counted_to)
        buffer = bytearray(REST_BYTES)
        while (self._end_byte is None or self._counted_to < self._end_byte) and self.readinto(buffer):
            pass
        if self._end_byte is not None and self._counted_to < self._end_byte:
            raise changed(path)
        checksum = self._checksum.digest().hex()
        return ReadPart(path, self._first_byte, self.counted_bytes, checksum, documents)

    def _count(self, content: memoryview) -> None:
        """Adds what is new of bytes that were read at the place where the stream is."""
        end = self._place + len(content)
        end = end if self._end_byte is None else min(end, self._end_byte)
        if not self._place <= self._counted_to < end:
            return
        self._checksum.update(bytes(content[self._counted_to - self._place : end - self._place]))
        self._on_bytes(end - self._counted_to)
        self._counted_to = end


def changed(path: str) -> UserError:
    """Returns the error of a file that is not the one that it was before."""
    return UserError(
        f"an input file must stay as it is until the work on it is done, and {path} changed: put back what was there, "
        "or begin again with a new --output."
    )


def require_versions(files: Sequence[str], versions: Sequence[Version]) -> None:
    """Raises `UserError` with the first file that no longer has the version that it had."""
    for file, before, now in zip(files, versions, versions_of(files), strict=True):
        if now != before:
            raise changed(file)
