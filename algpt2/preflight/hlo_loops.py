"""How often the loops of a compiled program run: XLA's cost analysis counts the body of each once."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*?\{$(.*?)^\}", re.MULTILINE | re.DOTALL)
_WHILE = re.compile(r"\swhile\(.*?condition=%([^\s,]+), body=%([^\s,]+)")
_CALLED = re.compile(r"(?:calls|to_apply)=%([^\s,}]+)")
_CONSTANT = re.compile(r"%(\S+) = [su]\d+\[\]\S* constant\((\d+)\)")
_LESS = re.compile(r"compare\([^%]*%[^,]+, [^%]*%([^\s,)]+)\), direction=LT")


@dataclasses.dataclass(frozen=True)
class Cost:
    """FLOPs of a computation, and bytes of all operands and results."""

    flops: float
    bytes_accessed: float

    def plus(self, factor: float, other: "Cost") -> "Cost":
        """Returns self + factor x other."""
        return Cost(self.flops + factor * other.flops, self.bytes_accessed + factor * other.bytes_accessed)


@dataclasses.dataclass(frozen=True)
class Loops:
    """The loops of a program: by how much they multiply its costs, how many there are, how many no text tells of."""

    flops_factor: float = 1.0
    bytes_factor: float = 1.0
    count: int = 0
    uncounted: int = 0


def loops_of(module: Any) -> Loops:
    """Returns the loops of a compiled `HloModule`, with the factors that correct its cost analysis.

    A loop whose number of rounds is not a constant in its condition is uncounted: its body counts once.
    """
    text = module.to_string()
    if " while(" not in text:
        return Loops()
    program = Program(text, functools.partial(_cost_as_entry, text))
    once, all_rounds = program.once(program.entry), program.all_rounds(program.entry)
    return Loops(
        all_rounds.flops / once.flops,
        all_rounds.bytes_accessed / once.bytes_accessed,
        len(program.rounds),
        sum(rounds is None for rounds in program.rounds.values()),
    )


class Program:
    """Computations by name, with the cost of each. `cost` gives one's cost with the bodies inside it counted once."""

    def __init__(self, text: str, cost: Callable[[str], Cost]):
        found = _COMPUTATION.findall(text)
        self.computations = {name: body for _, name, body in found}
        self.entry = next(name for entry, name, _ in found if entry)
        self.once = functools.cache(cost)
        whiles = [match for body in self.computations.values() for match in _WHILE.findall(body)]
        self.rounds = {body: rounds_of(self.computations[condition]) for condition, body in whiles}

    def all_rounds(self, name: str) -> Cost:
        """Returns a computation's cost with every loop's body counted as often as it runs."""
        total = self.once(name)
        for body in self._bodies_in(name):
            total = total.plus(-1, self.once(body)).plus(self.rounds[body] or 1, self.all_rounds(body))
        return total

    def _bodies_in(self, name: str) -> Iterator[str]:
        """Yields the bodies of the loops that one pass through a computation enters."""
        yield from (body for _, body in _WHILE.findall(self.computations[name]))
        for called in _CALLED.findall(self.computations[name]):
            yield from self._bodies_in(called)


def rounds_of(condition: str) -> int | None:
    """Returns the constant that a loop's condition compares its counter with, the smallest of several, or None."""
    constants = dict(_CONSTANT.findall(condition))
    limits = [int(constants[name]) for name in _LESS.findall(condition) if name in constants]
    return min(limits, default=None)


def _cost_as_entry(text: str, name: str) -> Cost:
    """Returns what XLA's analysis says of a computation made the entry of its program."""
    from jax._src.lib import xla_client
    from jaxlib._hlo import hlo_module_from_text

    computations = text[text.index("\n\n") :].replace("\nENTRY %", "\n%")
    as_entry = computations.replace(f"\n%{name} (", f"\nENTRY %{name} (")
    module = hlo_module_from_text(f"HloModule part\n{as_entry}")
    cost = xla_client._xla.hlo_module_cost_analysis(_cpu_client(), module)
    return Cost(cost["flops"], cost["bytes accessed"])


@functools.cache
def _cpu_client() -> Any:
    """A client that the analysis wants, for a CPU: a libtpu without a TPU has none, and FLOPs are the same."""
    from jax._src.lib import xla_client

    return xla_client.make_cpu_client()
