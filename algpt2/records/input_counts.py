"""What became of the documents of the input, as a manifest tells it."""

import dataclasses
import math
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class MixtureInput:
    """One input of a mixture, and what came of it.

    Attributes:
      paths: its files, folders and patterns, as they were given.
      weight: how often each document was to be taken.
      documents: how many there were, each once.
      taken_documents: how many the splits have, as often as they have them.

    Raises:
      ValueError: a weight or a count that no input can have.
    """

    paths: tuple[str, ...]
    weight: float
    documents: int
    taken_documents: int

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"an input of its mixture has the weight {self.weight}")
        if not 0 <= self.taken_documents <= self.documents * math.ceil(self.weight):
            raise ValueError(
                f"an input of its mixture has the weight {self.weight}, {self.documents} documents and "
                f"{self.taken_documents} taken_documents"
            )


def require_taken(mixture: Sequence[MixtureInput], documents: int) -> None:
    """Raises `ValueError` unless as many documents were taken of all inputs as the splits have."""
    taken = sum(one.taken_documents for one in mixture)
    if taken != documents:
        raise ValueError(f"its mixture has {taken} taken_documents, and its splits have {documents}")


@dataclasses.dataclass(frozen=True)
class ExcludedFile:
    """A file whose n-grams no document has, and the SHA-256 of its bytes in hexadecimal.

    Raises:
      ValueError: it is no SHA-256.
    """

    path: str
    sha256: str

    def __post_init__(self) -> None:
        if re.fullmatch("[0-9a-f]{64}", self.sha256) is None:
            raise ValueError(f"the sha256 of {self.path} is {self.sha256!r}, not 64 hexadecimal digits")


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """Documents that were left out because they share words in a row with some files.

    Attributes:
      ngram_words: how many words in a row.
      files: that they were compared with.
      documents: how many were left out, each once.

    Raises:
      ValueError: a count that is none.
    """

    ngram_words: int
    files: tuple[ExcludedFile, ...]
    documents: int

    def __post_init__(self) -> None:
        if self.ngram_words < 1 or self.documents < 0:
            raise ValueError(f"its exclusion has {self.ngram_words} ngram_words and {self.documents} documents")
