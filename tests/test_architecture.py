"""The rooms of `algpt2/` and who may import whom: the plan that the folders stand for."""

import ast
import subprocess
import sys

import pytest
from places import REPOSITORY

PACKAGE = REPOSITORY / "algpt2"
# From the ground up: a room imports itself, `errors`, `progress`, and the rooms that its line names.
ROOMS = {
    "storage": "",
    "devices": "storage",
    "config": "devices storage",
    "text": "config storage",
    "records": "text config storage",
    "preparation": "records text config storage",
    "model": "config devices",
    "optim": "model config",
    "evaluation": "records text model devices config storage",
    "checkpoints": "text model optim config storage",
    "runs": "checkpoints records text config devices storage",
    "interchange": "runs checkpoints evaluation model records text config devices storage",
    "tracking": "runs evaluation checkpoints model records text config devices storage",
    "training": "tracking runs checkpoints evaluation optim model records text config devices storage",
    "preflight": "training tracking runs checkpoints evaluation optim model records text config devices storage cli",
    "studies": "training tracking runs checkpoints evaluation optim model records text config devices storage cli",
}
BESIDE_THE_ROOMS = {
    **{"errors": "", "progress": "", "processes": "", "standard_streams": "", "tables": ""},
    **{"interrupts": "standard_streams", "cli": "storage standard_streams"},
}
EVERYBODY_MAY_IMPORT = {"errors", "progress", "processes", "interrupts", "tables"}
IMPORTING_FUNCTIONS = {"import_module", "__import__", "importorskip", "run_path", "run_module"}
WITHOUT_TENSORFLOW = [
    "config",
    "runs",
    "storage",
    "checkpoints.folder",
    "interchange.ways_out",
    "records.record_set",
    "text.documents",
    "evaluation.protocols",
    "evaluation.wikitext_files",
    "model.sizes",
    "devices.wheels",
    "studies",
    "cli",
]


def place_of(module):
    """'algpt2.preparation.packing' -> 'data'."""
    return (module.split(".") + [""])[1]


def imports(file):
    """Returns every module or name below `algpt2` that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "algpt2":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "algpt2")


def test_every_folder_of_the_package_is_a_room_with_a_line_that_says_what_is_in_it():
    folders = {file.parent.name for file in PACKAGE.glob("*/*.py")}
    assert folders == set(ROOMS)
    modules = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules == set(BESIDE_THE_ROOMS)
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())), room


@pytest.mark.parametrize("place", [*ROOMS, *BESIDE_THE_ROOMS])
def test_nothing_imports_upwards(place):
    allowed = {**ROOMS, **BESIDE_THE_ROOMS}[place].split()
    files = [PACKAGE / f"{place}.py"] if place in BESIDE_THE_ROOMS else (PACKAGE / place).glob("*.py")
    for file in files:
        found = {place_of(module) for module in imports(file)}
        upwards = found - {place, *allowed} - EVERYBODY_MAY_IMPORT
        assert not upwards, f"{file.relative_to(REPOSITORY)} imports {sorted(upwards)}, and {place} may not"


def test_no_room_is_below_one_that_it_imports():
    order = [*ROOMS]
    for room, allowed in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in allowed.split() if other != "cli"), room


@pytest.mark.parametrize("place", WITHOUT_TENSORFLOW)
def test_these_are_imported_without_tensorflow(place):
    file = PACKAGE / f"{place.replace('.', '/')}.py"
    files = [file] if file.exists() else sorted((PACKAGE / place).glob("*.py"))
    names = [".".join(one.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__") for one in files]
    program = f"import sys, {', '.join(names)}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert ended.returncode == 0, f"{place} imports TensorFlow or Keras {ended.stderr}"


def imported_tests(source):
    """Returns the tests that a program imports by a statement, or by a function that takes the name as a text."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names += [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in IMPORTING_FUNCTIONS:
            names += [argument.value for argument in ast.walk(node) if isinstance(argument, ast.Constant)]
    parts = {part for name in names for part in str(name).replace("/", ".").split(".")}
    return {part for part in parts if part.startswith("test_") or part == "conftest"}


def test_a_test_imports_no_other_test():
    """What two of them need is in `tests/helpers`."""
    for file in (REPOSITORY / "tests").rglob("*.py"):
        assert not imported_tests(file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(
    "source",
    [
        "import test_x",
        "import tests.data.test_x as x",
        "from test_x import helper",
        "from tests.data.test_x import helper",
        "from tests.data import test_x",
        "from . import test_x",
        "def f():\n    from test_x import helper",
        "importlib.import_module('tests.data.test_x')",
        "__import__('test_x')",
        "runpy.run_path('tests/records/test_x.py')",
        "from conftest import helper",
    ],
)
def test_an_import_of_a_test_is_seen_however_it_is_written(source):
    assert imported_tests(source)


def test_nothing_imports_a_script_or_a_test():
    scripts = {
        file.stem for folder in (".", "data_tools", "eval", "ablations") for file in (REPOSITORY / folder).glob("*.py")
    }
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in scripts | {"tests"}, file


def is_private(name):
    return name.startswith("_") and name.strip("_") != "" and not name.startswith("__")


def parsed(folder):
    """Yields (file, every node of its syntax tree) of a folder."""
    for file in sorted((REPOSITORY / folder).rglob("*.py")):
        yield file, list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def private_names():
    """Returns the names of functions, classes, constants, modules and attributes that begin with one underscore."""
    found = set()
    for file, nodes in [*parsed("algpt2"), *parsed("benchmarks")]:
        found.add(file.stem)
        for node in nodes:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return {name for name in found if is_private(name)}


def private_names_used(node, names):
    """Yields those of `names` that a node takes: as an attribute of another object, an import, or an argument's text.

    The last is how `monkeypatch.setattr(Trainer, "_advance", ...)` takes them.
    """
    if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
        yield from {node.attr} & names
    elif isinstance(node, ast.ImportFrom):
        yield from {alias.name for alias in node.names} & names
    elif isinstance(node, ast.Call):
        texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        yield from (part for text in texts if isinstance(text, str) for part in text.split(".") if part in names)


def test_no_test_or_benchmark_uses_a_private_name_of_the_package_or_of_a_benchmark():
    names = private_names()
    assert "_is_shown" in names, "one is known, so an empty set would be a fault of this test"
    used = [
        f"{file.relative_to(REPOSITORY)}:{node.lineno}: {name}"
        for folder in ("tests", "benchmarks")
        for file, nodes in parsed(folder)
        for node in nodes
        for name in private_names_used(node, names)
    ]
    assert not used, "\n".join(used)
