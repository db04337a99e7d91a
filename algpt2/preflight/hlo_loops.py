"""How many FLOPs a compiled program does, its loops included: XLA's cost analysis counts the body of each loop once."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from algpt2.preflight.hlo_text import Program


def flops_with_every_round(program: Program, flops_of: Callable[[str], float]) -> float:
    """Returns the FLOPs of a program with the body of every loop counted as often as it runs.

    A loop whose number of rounds is unknown counts as one round.

    Args:
      program: the program.
      flops_of: returns the FLOPs of the computation of a name, with the bodies of the loops in it counted once.
    """
    flops_once = functools.cache(flops_of)

    def flops_of_all_rounds(name: str) -> float:
        total = flops_once(name)
        for body in _bodies_in(program, name):
            total += program.rounds_or_one[body] * flops_of_all_rounds(body) - flops_once(body)
        return total

    return flops_of_all_rounds(program.entry)


def _bodies_in(program: Program, name: str) -> Iterator[str]:
    """Yields the bodies of the loops that one pass through a computation enters."""
    for instruction in program.computations[name].instructions.values():
        if instruction.loop:
            yield instruction.loop[1]
        elif instruction.called:
            yield from _bodies_in(program, instruction.called)


def flops_as_entry(text: str, name: str) -> float:
    """Returns the FLOPs that XLA's cost analysis finds in a computation that is made the entry of its program.

    Args:
      text: the program's text.
      name: the computation.
    """
    from jax._src.lib import xla_client
    from jaxlib._hlo import hlo_module_from_text

    computations = text[text.index("\n\n") :].replace("\nENTRY %", "\n%")
    as_entry = computations.replace(f"\n%{name} (", f"\nENTRY %{name} (")
    module = hlo_module_from_text(f"HloModule part\n{as_entry}")
    return xla_client._xla.hlo_module_cost_analysis(_cpu_client(), module)["flops"]


@functools.cache
def _cpu_client() -> Any:
    """The analysis wants a client. A libtpu without a TPU has none, so it is a CPU's, for which FLOPs are the same."""
    from jax._src.lib import xla_client

    return xla_client.make_cpu_client()
