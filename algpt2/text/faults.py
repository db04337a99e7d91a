"""What is wrong with a document or a file of the input, and what is done with it: an error, or a count."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from algpt2.errors import UserError

# Of a file that is not whole, what can be read in front of the fault is kept, and the rest is one fault.
DAMAGED_FILE = "damaged_file"
NOT_UTF8, NOT_JSON, WITHOUT_TEXT, LONE_SURROGATE = "not_utf8", "not_json", "without_text", "lone_surrogate"

T = TypeVar("T")


class InputFault(UserError):
    """Input that is no document.

    Attributes:
      kind: one of this module's.
    """

    def __init__(self, kind: str, sentence: str):
        super().__init__(sentence)
        self.kind = kind


class FaultCounts:
    """How many faults there were.

    Attributes:
      counts: by kind.
      first: what the first of each kind says.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def add(self, fault: InputFault) -> None:
        """Counts one more."""
        self.counts[fault.kind] = self.counts.get(fault.kind, 0) + 1
        self.first.setdefault(fault.kind, str(fault))


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
