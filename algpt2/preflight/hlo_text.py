"""A compiled program, read from XLA's text: its computations, their instructions, and where each value lies."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

# A layout ends in the memory space of its buffer, and names none for the default one, which is HBM on a TPU.
HBM = 0

_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*?\{$(.*?)^\}", re.MULTILINE | re.DOTALL)
_INSTRUCTION = re.compile(r"^ +(ROOT )?%(\S+) = (.*)$", re.MULTILINE)
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_OPERAND = re.compile(r"%([^\s,)]+)")
_CALLED = re.compile(r"(?:calls|to_apply)=%([^\s,}]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|true_computation=(\S+), false_computation=([^\s,]+)")
_LOOP = re.compile(r"condition=%([^\s,]+), body=%([^\s,]+)")
_BITS = re.compile(r"\d+")
_WITHOUT_BITS = {"pred": 8, "token": 0, "opaque": 0}


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's result: its size without the padding of its layout, and its memory space."""

    bytes: int
    memory_space: int


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction. A result that is a tuple, nested or not, is the list of its arrays from left to right.

    `operands` are the names of the instructions whose results it takes. `arguments` is the text in its brackets, such
    as a parameter's number or a constant's value, and `attributes` the text after it.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    arguments: str
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """The size of all that it results in."""
        return sum(array.bytes for array in self.arrays)

    @functools.cached_property
    def called(self) -> str | None:
        """The computation that a fusion, a call or an asynchronous start runs."""
        found = _CALLED.search(self.attributes)
        return found and found[1]

    @functools.cached_property
    def branches(self) -> tuple[str, ...]:
        """The computations of which a `conditional` runs one."""
        found = _BRANCHES.search(self.attributes)
        return tuple(name.strip(" %") for name in (found[1] or f"{found[2]},{found[3]}").split(",")) if found else ()

    @functools.cached_property
    def loop(self) -> tuple[str, str] | None:
        """The condition and the body of a `while`."""
        found = _LOOP.search(self.attributes)
        return found and (found[1], found[2])


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in the order of the text, which is that of the schedule."""

    name: str
    instructions: dict[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """The instruction whose result is that of the computation."""
        return next(instruction for instruction in self.instructions.values() if instruction.is_root)

    @functools.cached_property
    def parameters(self) -> dict[int, Instruction]:
        """Its parameters by number."""
        found = (one for one in self.instructions.values() if one.opcode == "parameter")
        return {int(parameter.arguments): parameter for parameter in found}

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """By the name of an instruction, those that have it as an operand."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                users[operand].append(instruction)
        return users

    @functools.cached_property
    def rounds(self) -> int | None:
        """How often a loop with this condition runs: the constant below which its counter stays, or None.

        The counter starts at 0 and grows by 1, as those of the loops of `tf.while_loop` and of the compiler do. Of
        several limits the smallest counts.
        """
        limits = []
        for instruction in self.instructions.values():
            if instruction.opcode == "compare" and "direction=LT" in instruction.attributes:
                limit = self.instructions[instruction.operands[1]]
                if limit.opcode == "constant" and limit.arguments.isdecimal():
                    limits.append(int(limit.arguments))
        return min(limits, default=None)


@dataclasses.dataclass(frozen=True)
class Program:
    """Computations by name, and the one that the program starts with."""

    computations: dict[str, Computation]
    entry: str

    @functools.cached_property
    def rounds(self) -> dict[str, int | None]:
        """By the name of a loop's body, how often the loop runs, None where its condition does not tell."""
        loops = filter(None, (instruction.loop for instruction in self._instructions()))
        return {body: self.computations[condition].rounds for condition, body in loops}

    @functools.cached_property
    def rounds_or_one(self) -> dict[str, int]:
        """The same, with one round where it is unknown."""
        return {body: 1 if rounds is None else rounds for body, rounds in self.rounds.items()}

    @functools.cached_property
    def fused(self) -> set[str | None]:
        """The names of the computations that are the insides of fusions."""
        return {instruction.called for instruction in self._instructions() if instruction.opcode == "fusion"}

    def _instructions(self) -> Iterator[Instruction]:
        for computation in self.computations.values():
            yield from computation.instructions.values()


def parse(text: str) -> Program:
    """Returns the program that XLA printed (`HloModule.to_string()`)."""
    found = _COMPUTATION.findall(text)
    computations = {name: Computation(name, dict(_instructions(body))) for _, name, body in found}
    return Program(computations, next(name for entry, name, _ in found if entry))


def _instructions(body: str) -> Iterator[tuple[str, Instruction]]:
    for root, name, text in _INSTRUCTION.findall(body):
        end_of_type = _end_of_brackets(text) if text.startswith("(") else text.index(" ")
        opcode = text[end_of_type : text.index("(", end_of_type)].strip()
        start = text.index("(", end_of_type)
        end = start + _end_of_brackets(text[start:])
        arguments = text[start + 1 : end - 1]
        operands = () if opcode == "constant" else tuple(_OPERAND.findall(arguments))
        arrays = tuple(_arrays(text[:end_of_type]))
        yield name, Instruction(name, opcode, arrays, operands, arguments, text[end:], bool(root))


def _end_of_brackets(text: str) -> int:
    """Returns the place after the bracket that closes the one with which a text begins."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return place + 1
    raise ValueError(f"a bracket of a program's text stays open: {text[:80]!r}")


def _arrays(text: str) -> Iterator[Array]:
    for kind, dimensions, layout in _ARRAY.findall(text):
        count = math.prod(map(int, filter(None, dimensions.split(","))))
        space = _MEMORY_SPACE.search(layout)
        yield Array(-(-count * _bits(kind) // 8), int(space[1]) if space else HBM)


def _bits(kind: str) -> int:
    """Returns the width of an element: that in the type's name, as of 'bf16' and 'f8e4m3fn'."""
    return _WITHOUT_BITS[kind] if kind in _WITHOUT_BITS else int(_BITS.search(kind)[0])
