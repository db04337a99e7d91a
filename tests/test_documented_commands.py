"""Every command in the documents and in `make demo` is one that its script understands."""

import re
import shlex
import shutil
import subprocess

import pytest
from command_line import GENERATE, GOOD, INSPECT, REPORT, STUDY, VERIFY, call
from places import REPOSITORY

FOLDERS = "ablations|benchmarks|data_tools|eval|docs/reference"
SCRIPT = rf"train_tfrecords\.py|generate\.py|(?:{FOLDERS})/\w+\.py|-m benchmarks\.\w+"
COMMAND = re.compile(rf"(?<![\w/])(?:\S*/)?python3?\s+({SCRIPT})(?=\s|$)(.*)")
BLOCK = re.compile(r"^ *```.*?\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(python[^`]+)`")


def commands_in(text):
    """Yields (script, arguments) of every command line in a text that runs one of the scripts."""
    for line in text.replace("\\\n", " ").splitlines():
        for script, rest in COMMAND.findall(line):
            lexer = shlex.shlex(rest, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            arguments = list(lexer)
            ends = [i for i, word in enumerate(arguments) if word and set(word) <= set("|&;<>()")]
            yield path_of(script), arguments[: min(ends, default=len(arguments))]


def path_of(script):
    """'-m benchmarks.step' -> 'benchmarks/step.py'."""
    return script.removeprefix("-m ").replace(".", "/") + ".py" if script.startswith("-m ") else script


def commands_of_document(text):
    """Yields the commands in a document's code blocks, and those within its sentences and tables."""
    for block in BLOCK.findall(text):
        yield from commands_in(block)
    for inline in INLINE.findall(BLOCK.sub("", text)):
        yield from commands_in(" ".join(inline.split()))


def documented_commands():
    """Returns (script, arguments) of the commands of all documents."""
    files = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
    return [command for file in sorted(files) for command in commands_of_document(file.read_text(encoding="utf-8"))]


def demo_commands():
    """Returns the commands that `make demo` would run."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    printed = subprocess.run(["make", "--always-make", "-n", "demo"], cwd=REPOSITORY, capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    return list(commands_in(printed.stdout))


def parse(scripts, script, arguments):
    assert script in scripts, f"there is no {script}"
    outcome = call(lambda argv: scripts[script]["parse"](argv) and 0, arguments)
    assert outcome.status == 0, f"{script} {shlex.join(arguments)}: {outcome.stderr}"


def test_every_command_in_the_documents_is_one_that_its_script_understands(scripts):
    commands = documented_commands()
    assert {script for script, _ in commands} >= set(scripts), "a script without an example"
    for script, arguments in commands:
        parse(scripts, script, arguments)


def test_every_command_of_the_demo_is_one_that_its_script_understands(scripts):
    commands = demo_commands()
    assert {script for script, _ in commands} == set(GOOD) - {INSPECT, REPORT, STUDY, VERIFY}
    for script, arguments in commands:
        parse(scripts, script, arguments)


def test_commands_are_found_whole_in_a_text():
    text = (
        '$ make\n.venv/bin/python generate.py --prompt "a; b" \\\n  --seed 1 > x.json; python setup.py --seed 2 # c\n'
    )
    assert list(commands_in(text)) == [(GENERATE, ["--prompt", "a; b", "--seed", "1"])]


def test_commands_are_found_in_blocks_and_in_sentences_of_a_document():
    text = (
        "Say `python -m benchmarks.step\n--steps 2` or\n\n1. this:\n\n   ```\n   python generate.py --seed 1\n   ```\n"
    )
    expected = [(GENERATE, ["--seed", "1"]), ("benchmarks/step.py", ["--steps", "2"])]
    assert list(commands_of_document(text)) == expected
