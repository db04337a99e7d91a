"""Every command in the documents and in `make demo` is one that its script understands."""

import re
import shlex
import shutil
import subprocess

import pytest
from command_line import GENERATE, GOOD, INSPECT, call
from places import REPOSITORY

SCRIPT = r"train_tfrecords\.py|generate\.py|benchmarks/\w+\.py|data_tools/\w+\.py|eval/\w+\.py"
COMMAND = re.compile(rf"(?<![\w/])(?:\S*/)?python3?\s+({SCRIPT})(?=\s|$)(.*)")


def commands_in(text):
    """Yields (script, arguments) of every command line in a text that runs one of the scripts."""
    for line in text.replace("\\\n", " ").splitlines():
        for script, rest in COMMAND.findall(line):
            lexer = shlex.shlex(rest, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            arguments = list(lexer)
            ends = [i for i, word in enumerate(arguments) if word and set(word) <= set("|&;<>()")]
            yield script, arguments[: min(ends, default=len(arguments))]


def documented_commands():
    """Returns (file name, script, arguments) of the commands in the code blocks of all documents."""
    found = []
    for file in sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")]):
        for block in re.findall(r"^```.*?\n(.*?)^```", file.read_text(), re.DOTALL | re.MULTILINE):
            found += [(file.name, *command) for command in commands_in(block)]
    return found


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
    assert {script for file, script, _ in commands if file == "README.md"} >= set(GOOD), "a tool without an example"
    for _, script, arguments in commands:
        parse(scripts, script, arguments)


def test_every_command_of_the_demo_is_one_that_its_script_understands(scripts):
    commands = demo_commands()
    assert {script for script, _ in commands} == set(GOOD) - {INSPECT}
    for script, arguments in commands:
        parse(scripts, script, arguments)


def test_commands_are_found_whole_in_a_text():
    text = (
        '$ make\n.venv/bin/python generate.py --prompt "a; b" \\\n  --seed 1 > x.json; python setup.py --seed 2 # c\n'
    )
    assert list(commands_in(text)) == [(GENERATE, ["--prompt", "a; b", "--seed", "1"])]
