"""What became of the documents of the input, as a manifest tells it."""

import dataclasses
import math


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
