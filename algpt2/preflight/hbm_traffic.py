"""The bytes that a compiled program moves between a TPU core and its memory, counted in the compiler's text.

XLA's cost analysis adds up operands and results ("bytes accessed") wherever they lie. On chips with a large memory on
the chip itself, as v5e and v6e have, most of them lie there and never reach the main memory (HBM). So here each operand
and each result counts for the memory that its layout names.

What counts:

- An instruction reads each operand once and writes its result once. For a fusion these are its own operands and
  results: what it computes inside stays in registers.
- Where only a part of an operand is read (a slice, gathered rows), that part counts. Of several parts that one fusion
  reads, the largest counts, because they may overlap.
- Where only a part of a buffer that was there before is written (an updated slice, a scatter), that part counts.
- An asynchronous copy reads its source and writes its destination when it starts; its end moves nothing.
- Parameters, constants, tuples and bitcasts move nothing.
- A loop counts as often as it runs, and of a conditional's branches the one that moves least.

Each is the least that the instruction can move, so the sum is a lower bound of what this very program moves. Another
program for the same step may move less. The padding of layouts is left out.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable
from fractions import Fraction

from algpt2.preflight.hlo_text import HBM, Array, Computation, Instruction, Program

_NO_TRAFFIC = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency"),
    *("partition-id", "replica-id", "opt-barrier", "optimization-barrier"),
}
# Custom calls with which the compiler gives buffers other names; their operands and results are the same bytes.
_RENAMING = re.compile(r'custom_call_target="(ConcatBitcast|AllocateBuffer|Assume\w+|Sharding)"')
# Each element of the result needs one element of each operand, so that a reader of a part needs only that part.
_ELEMENT_BY_ELEMENT = {
    *("bitcast", "bitcast-convert", "convert", "copy", "reduce-precision", "reshape", "transpose", "reverse"),
    *("add", "and", "atan2", "compare", "divide", "maximum", "minimum", "multiply", "or", "power", "remainder"),
    *("select", "shift-left", "shift-right-arithmetic", "shift-right-logical", "subtract", "xor"),
    *("abs", "cbrt", "ceil", "cosine", "erf", "exponential", "exponential-minus-one", "floor", "is-finite", "log"),
    *("log-plus-one", "logistic", "negate", "not", "round-nearest-afz", "round-nearest-even", "rsqrt", "sign", "sine"),
    *("sqrt", "tan", "tanh"),
}


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that instructions read and write: in HBM, and in the memories on the chip."""

    hbm_bytes: float = 0
    on_chip_bytes: float = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.hbm_bytes + other.hbm_bytes, self.on_chip_bytes + other.on_chip_bytes)

    def __rmul__(self, times: int) -> "Traffic":
        return Traffic(times * self.hbm_bytes, times * self.on_chip_bytes)


def traffic_of(program: Program) -> Traffic:
    """Returns what one run of a program moves. A loop whose rounds are unknown counts as one round."""
    return _Count(program).of_computation(program.entry)


class _Count:
    """Counts the computations of one program, each once, however often it is called."""

    def __init__(self, program: Program):
        self.computations = program.computations
        self.rounds = program.rounds_or_one
        self.fused = program.fused
        self.of_computation = functools.cache(self._of_computation)
        self._fractions_read = functools.cache(self._fractions_read_inside)

    def _of_computation(self, name: str) -> Traffic:
        computation = self.computations[name]
        return sum((self._of(computation, one) for one in computation.instructions.values()), Traffic())

    def _of(self, computation: Computation, instruction: Instruction) -> Traffic:
        if instruction.opcode == "while":
            condition, body = instruction.loop
            return self.rounds[body] * (self.of_computation(body) + self.of_computation(condition))
        if instruction.opcode == "conditional":
            return min(map(self.of_computation, instruction.branches), key=lambda traffic: traffic.hbm_bytes)
        if instruction.opcode in ("call", "async-start"):
            return self.of_computation(instruction.called)
        if _moves_nothing(instruction):
            return Traffic()
        return self._read(computation, instruction) + self._written(computation, instruction)

    def _read(self, computation: Computation, reader: Instruction) -> Traffic:
        """Returns what an instruction reads of its operands."""
        total = Traffic()
        for name in dict.fromkeys(reader.operands):
            operand = computation.instructions[name]
            fraction = self._fraction(computation, operand, reader)
            total += _traffic((array, round(fraction * array.bytes)) for array in operand.arrays)
        return total

    def _fraction(self, computation: Computation, operand: Instruction, reader: Instruction) -> Fraction:
        """Returns the fraction of an operand that an instruction reads at least."""
        places = [place for place, name in enumerate(reader.operands) if name == operand.name]
        if reader.opcode == "fusion":
            parameters = self.computations[reader.called].parameters
            return max(self._fractions_read(reader.called)[parameters[place].name] for place in places)
        part = self._part_of_first_operand(computation, reader) if places == [0] else None
        return Fraction(1) if part is None else min(Fraction(1), Fraction(part, max(1, operand.bytes)))

    def _part_of_first_operand(self, computation: Computation, reader: Instruction) -> int | None:
        """Returns how many bytes of its first operand an instruction reads that does not read all of it, else None."""
        opcode = reader.opcode.removesuffix("-start")
        if opcode in ("slice", "dynamic-slice", "gather"):
            return self._results(computation, reader)[0].bytes
        if opcode == "dynamic-update-slice":
            return 0
        if opcode == "scatter":  # what it adds to
            return computation.instructions[reader.operands[-1]].bytes
        return None

    def _fractions_read_inside(self, fused: str) -> dict[str, Fraction]:
        """Returns, by the name of each value inside a fusion, the fraction of it that the fusion reads at least."""
        computation = self.computations[fused]
        fractions: dict[str, Fraction] = {}
        for value in reversed(computation.instructions.values()):  # readers come before what they read
            read = (
                fractions[reader.name]
                if reader.opcode in _ELEMENT_BY_ELEMENT
                else self._fraction(computation, value, reader)
                for reader in computation.users[value.name]
            )
            fractions[value.name] = Fraction(1) if value.is_root else max(read, default=Fraction(0))
        return fractions

    def _written(self, computation: Computation, writer: Instruction) -> Traffic:
        """Returns what an instruction writes of its result."""
        results = self._results(computation, writer)
        sizes = self._sizes_written(computation, writer)
        return _traffic(zip(results, sizes, strict=True))

    def _results(self, computation: Computation, instruction: Instruction) -> tuple[Array, ...]:
        """Returns the arrays that an instruction computes. An asynchronous start also lists operands and a context."""
        if instruction.opcode == "copy-start":
            return instruction.arrays[:1]
        if instruction.opcode.endswith("-start"):
            n_operands = sum(len(computation.instructions[name].arrays) for name in instruction.operands)
            return instruction.arrays[n_operands : n_operands + 1]
        return instruction.arrays

    def _sizes_written(self, computation: Computation, writer: Instruction) -> list[int]:
        """Returns the size of what an instruction writes in each of its results."""
        if (update := self._update_in_place(computation, writer)) is not None:
            return [update.bytes]
        if writer.opcode == "fusion":
            fused = self.computations[writer.called]
            sizes = self._sizes_written(fused, _renamed(fused, fused.root))
            return sizes if len(sizes) == len(writer.arrays) else [array.bytes for array in writer.arrays]
        if writer.opcode == "tuple":
            elements = (_renamed(computation, computation.instructions[name]) for name in writer.operands)
            return [size for element in elements for size in self._sizes_written(computation, element)]
        return [array.bytes for array in self._results(computation, writer)]

    def _update_in_place(self, computation: Computation, writer: Instruction) -> Instruction | None:
        """Returns what an instruction writes into a buffer that was there before it or its fusion, None if it does not.

        What a fusion computes itself is no such buffer, so it must write all of it.
        """
        if writer.opcode not in ("dynamic-update-slice", "scatter"):
            return None
        buffer = _renamed(computation, computation.instructions[writer.operands[0]])
        if computation.name in self.fused and buffer.opcode != "parameter":
            return None
        update = 1 if writer.opcode == "dynamic-update-slice" else -1
        return computation.instructions[writer.operands[update]]


def _moves_nothing(instruction: Instruction) -> bool:
    is_renaming = instruction.opcode == "custom-call" and _RENAMING.search(instruction.attributes)
    is_end = instruction.opcode.endswith(("-done", "-update"))
    return bool(is_renaming or is_end or instruction.opcode in _NO_TRAFFIC)


def _renamed(computation: Computation, instruction: Instruction) -> Instruction:
    """Returns the instruction whose result this one is under another name."""
    while instruction.opcode == "bitcast":
        instruction = computation.instructions[instruction.operands[0]]
    return instruction


def _traffic(moved: Iterable[tuple[Array, int]]) -> Traffic:
    """Returns the bytes moved of each array, by its memory space."""
    parts = (Traffic(size, 0) if array.memory_space == HBM else Traffic(0, size) for array, size in moved)
    return sum(parts, Traffic())
