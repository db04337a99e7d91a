"""A text that stands between the documents of a plain text file."""

import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

from algpt2.config.options import require

READ_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class Separator:
    r"""What stands between two documents, such as '<|endoftext|>' or an empty line, '\n\n'.

    Example:

    >>> import io
    >>> [*Separator("--").parts(io.BytesIO(b"--one--two----"), 0)]
    [(2, b'one'), (7, b'two'), (12, b'')]

    Raises:
      UserError: it is empty, or no text that UTF-8 can hold.
    """

    text: str

    def __post_init__(self) -> None:
        require(self.text != "", "document_separator", "a text of one character or more", self.text)
        # A byte of a command line that is not UTF-8 comes as a lone surrogate.
        is_text = self.text == self.text.encode(errors="ignore").decode()
        require(is_text, "document_separator", "UTF-8", self.text)

    @classmethod
    def of(cls, text: str | None) -> "Separator | None":
        """Returns the separator of a flag's value, None where there is none."""
        return None if text is None else cls(text)

    @property
    def utf8(self) -> bytes:
        """The separator as it stands in a file."""
        return self.text.encode()

    @property
    def can_be_found_from_anywhere(self) -> bool:
        r"""Whether two of them never overlap, as those of '\n\n' do in '\n\n\n'.

        Then which they are does not depend on where a search begins, and a file can be read in pieces.
        """
        return not any(self.utf8.endswith(self.utf8[:size]) for size in range(1, len(self.utf8)))

    def first_part(self, stream: BinaryIO, byte: int) -> int:
        """Returns where the first part begins that begins at a byte of a file or behind; the file's end if none does.

        It moves the stream.
        """
        if byte == 0:
            return 0
        start = max(0, byte - len(self.utf8))
        stream.seek(start)
        first, part = next(self._raw_parts(stream, start))
        return first + len(part) + len(self.utf8)

    def parts(self, stream: BinaryIO, first_byte: int) -> Iterator[tuple[int, bytes]]:
        """Yields the parts of a file, each with the byte at which it begins.

        Nothing in front of the first separator, or behind the last, is no part. Nothing between two is one.

        Args:
          stream: of the file, at `first_byte`.
          first_byte: where a part begins.
        """
        before = None
        for part in self._raw_parts(stream, first_byte):
            if before and (before[0] > 0 or before[1]):
                yield before
            before = part
        if before and before[1]:
            yield before

    def _raw_parts(self, stream: BinaryIO, first_byte: int) -> Iterator[tuple[int, bytes]]:
        separator, buffer, searched = self.utf8, bytearray(), 0
        while chunk := stream.read(READ_BYTES):
            buffer += chunk
            start = 0
            while (end := buffer.find(separator, max(start, searched))) >= 0:
                with memoryview(buffer) as content:  # A slice of the buffer itself would be a second copy.
                    part = bytes(content[start:end])
                yield first_byte + start, part
                start = end + len(separator)
            del buffer[:start]
            first_byte += start
            searched = max(0, len(buffer) - len(separator) + 1)
        yield first_byte, bytes(buffer)
