"""What a file of the input holds, numbered: an entry is a document, or a fault that is skipped in the place of one."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from algpt2.text.documents import Document, Keys, documents_of_piece
from algpt2.text.faults import InputFault
from algpt2.text.input_files import Piece
from algpt2.text.read_parts import ReadPart

OnNumberedFault = Callable[[int, InputFault], Any]


class Entry(NamedTuple):
    """A document, and its number among the entries of its piece, from 0."""

    number: int
    document: Document


class Entries:
    """The entries of a piece, which are numbered through all of its files.

    Attributes:
      counts: how many each file has, of those that are read to their end.
    """

    def __init__(
        self,
        piece: Piece,
        keys: Keys,
        on_bytes: Callable[[int], Any],
        on_fault: OnNumberedFault | None,
        on_read: Callable[[ReadPart], Any],
    ):
        """Takes what `documents_of_piece` takes, but that `on_fault` is called with the entry's number too."""
        self.counts: list[int] = []
        self._piece = piece
        self._keys = keys
        self._on_bytes = on_bytes
        self._on_fault = on_fault
        self._on_read = on_read
        self._next = 0

    def documents(self) -> Iterator[Entry]:
        """Yields the documents; it raises what `documents_of_piece` raises."""
        on_fault = self._skip if self._on_fault else None
        for file in self._piece.files:
            first, of_file = self._next, dataclasses.replace(self._piece, files=(file,))
            for document in documents_of_piece(of_file, self._keys, self._on_bytes, on_fault, self._on_read):
                yield Entry(self._taken(), document)
            self.counts.append(self._next - first)

    def _skip(self, fault: InputFault) -> None:
        self._on_fault(self._taken(), fault)

    def _taken(self) -> int:
        self._next += 1
        return self._next - 1
