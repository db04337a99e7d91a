"""The lists of deliberate mistakes in `tests/mutants/`: what is in them, and whether they still fit the code."""

import ast
import dataclasses
import functools
import json
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A deliberate mistake, and the tests of which at least one must fail with it.

    Attributes:
      mistake: what the wrong program does, a sentence.
      file: the file that is changed, from the root of the repository.
      replace: a text that stands once in that file.
      by: the wrong text.
      tests: pytest's names of tests, `tests/room/test_file.py::test_name`, or of a file with all of its tests.
    """

    mistake: str
    file: str
    replace: str
    by: str
    tests: tuple[str, ...]


def read_mutants(folder: Path) -> list[Mutant]:
    """Returns the mutants of every list in a folder, by the lists' names.

    Raises:
      TypeError: an entry has an unknown key, or lacks one.
    """
    entries = [entry for file in sorted(folder.glob("*.json")) for entry in json.loads(file.read_text("utf-8"))]
    mutants = [Mutant(**entry) for entry in entries]
    return [dataclasses.replace(mutant, tests=tuple(mutant.tests)) for mutant in mutants]


def fault_of(mutant: Mutant, repository: Path) -> str | None:
    """Returns why a mutant cannot be tried on a repository's files, or None if it can be."""
    file = repository / mutant.file
    if not file.is_file():
        return f"there is no {mutant.file}"
    if (count := file.read_text("utf-8").count(mutant.replace)) != 1:
        return f"{mutant.replace!r} must stand once in {mutant.file}, and stands there {count} times"
    if mutant.by == mutant.replace:
        return f"{mutant.replace!r} is replaced by itself"
    if not mutant.tests:
        return "it names no test"
    missing = [test for test in mutant.tests if not _exists(test, repository)]
    return f"there is no test {missing[0]}" if missing else None


def _exists(test: str, repository: Path) -> bool:
    """Whether there is the file, or the test in it, that a name such as `tests/test_x.py::test_y[gpt2]` means."""
    name, _, function = test.partition("::")
    if not (repository / name).is_file():
        return False
    if not function:
        return True
    return function.split("[")[0] in _functions_of((repository / name).read_text("utf-8"))


@functools.cache
def _functions_of(program: str) -> frozenset[str]:
    """Returns the names of a program's functions. The lists name most files many times, and parsing takes long."""
    return frozenset(node.name for node in ast.walk(ast.parse(program)) if isinstance(node, ast.FunctionDef))
