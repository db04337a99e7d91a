"""stdout and stderr that are closed, full or without a reader: at most a sentence, the right status, no traceback."""

import json
import os
import subprocess
import sys

import pytest
from command_line import COMPARE, GENERATE, TOKENIZER
from places import REPOSITORY

SCRIPTS = sorted(
    str(file.relative_to(REPOSITORY))
    for folder in (".", "data_tools", "eval", "ablations", "docs/reference")
    for file in (REPOSITORY / folder).glob("*.py")
    if "cli.run(main)" in file.read_text()
)
WITHOUT_STDERR = pytest.mark.parametrize("redirection", ["2>&-", "2> /dev/full"])


def redirected(redirection, command):
    """Returns how a Python command ended whose streams a shell redirected."""
    line = ["sh", "-c", f'exec "$0" "$@" {redirection}', sys.executable, *map(str, command)]
    return run(line, stdout=subprocess.PIPE)


def run(command, stdout):
    """Returns how a command ended in which Python buffers stdout, as it does unless the environment says otherwise."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120)


@pytest.fixture
def train_tokenizer(tmp_path):
    """A command that works."""
    (tmp_path / "corpus.txt").write_text("alpha beta gamma " * 30)
    flags = ("--input", tmp_path / "corpus.txt", "--vocab_size", 260, "--output", tmp_path / "tokenizer")
    return [REPOSITORY / TOKENIZER, *flags]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("redirection", "reason"), [("> /dev/full", "No space left"), (">&-", "is closed")])
def test_what_stdout_does_not_take_is_one_sentence(script, redirection, reason):
    outcome = redirected(redirection, [REPOSITORY / script, "--help"])
    assert outcome.returncode == 2
    assert outcome.stderr.startswith("error: stdout must ")
    assert reason in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_result_that_a_full_disk_does_not_take_is_one_sentence(train_tokenizer):
    outcome = redirected("> /dev/full", train_tokenizer)
    assert outcome.returncode == 2
    assert outcome.stderr.splitlines()[-1].startswith("error: stdout must take the result")
    assert outcome.stderr.count("error: ") == 1
    assert "Traceback" not in outcome.stderr
    assert "Exception ignored" not in outcome.stderr


def test_so_is_one_whose_reader_is_gone(train_tokenizer):
    read_end, write_end = os.pipe()
    os.close(read_end)
    outcome = run([sys.executable, *map(str, train_tokenizer)], stdout=write_end)
    os.close(write_end)
    assert outcome.returncode == 2
    assert "(Broken pipe)" in outcome.stderr.splitlines()[-1]
    assert "Exception ignored" not in outcome.stderr


@WITHOUT_STDERR
def test_a_command_does_its_work_without_a_stderr(train_tokenizer, redirection):
    outcome = redirected(redirection, train_tokenizer)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert json.loads(outcome.stdout)["documents"] == 1


@WITHOUT_STDERR
@pytest.mark.parametrize(
    "command", [(COMPARE, "--val_path", "none", "--run", "none"), (GENERATE, "--checkpoint", "none")]
)
def test_the_status_of_an_error_does_not_depend_on_whether_it_can_be_told(redirection, command):
    """The second passes what TensorFlow says, while it is imported, through a filter."""
    outcome = redirected(redirection, [REPOSITORY / command[0], *command[1:]])
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (2, "", "")


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path):
    program = (
        "import os\n"
        "from algpt2 import interrupts\n"
        "interrupts.begin()\n"
        f"with open({str(tmp_path / 'file')!r}, 'w') as file:\n"
        "    os.write(2, b'a message of a library')\n"
        "    assert file.fileno() > 2\n"
    )
    assert redirected("<&- >&- 2>&-", ["-c", program]).returncode == 0
    assert (tmp_path / "file").read_text() == ""
