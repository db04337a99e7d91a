"""What is wrong with a document or a file of the input, and what is done with it: an error, or a count."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from absl import logging

from algpt2.errors import UserError

# Of a file that is not whole, what can be read in front of the fault is kept, and the rest is one fault.
DAMAGED_FILE = "damaged_file"
NOT_UTF8, NOT_JSON, WITHOUT_TEXT, LONE_SURROGATE = "not_utf8", "not_json", "without_text", "lone_surrogate"
UNBROKEN_TEXT = "unbroken_text"

T = TypeVar("T")


class InputFault(UserError):
    """Input that is no document.

    Attributes:
      kind: one of this module's.
      file: the file that it is in.
    """

    def __init__(self, kind: str, file: str, sentence: str):
        super().__init__(sentence)
        self.kind = kind
        self.file = file

    def __reduce__(self) -> tuple[type["InputFault"], tuple[str, str, str]]:
        """Returns what another process makes the same fault of; Python's own way hands over the sentence alone."""
        return InputFault, (self.kind, self.file, str(self))


class FaultCounts:
    """How many faults there were.

    Attributes:
      counts: by kind.
      first: what the first of each kind says.
    """

    def __init__(self, counts: Mapping[str, int] = {}, first: Mapping[str, str] = {}):  # noqa: B006, they are copied
        self.counts = dict(counts)
        self.first = dict(first)

    def add(self, fault: InputFault) -> None:
        """Counts one more."""
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        self.first.setdefault(fault.kind, str(fault))

    def told(self) -> dict[str, int]:
        """Returns the counts, and warns of each kind with the first of it."""
        for kind, count in sorted(self.counts.items()):
            logging.warning("skipped %d of the input as %s; the first: %s", count, kind, self.first[kind])
        return dict(sorted(self.counts.items()))


OnFault = Callable[[InputFault], Any]


def kept(on_fault: OnFault | None, make: Callable[..., T], *arguments: Any) -> Iterator[T]:
    """Yields what `make(*arguments)` returns, or nothing if it raises a fault that `on_fault` is there for."""
    try:
        made = make(*arguments)
    except InputFault as fault:
        if on_fault is None:
            raise
        on_fault(fault)
        return
    yield made
