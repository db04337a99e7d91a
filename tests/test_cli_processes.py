"""The scripts as real processes: one JSON object on stdout, and on stderr only lines of their own unless asked.

Not here is make_demo_corpus.py, which imports no TensorFlow and takes a minute.
"""

import json
import logging
import os
import re
import subprocess
import sys

import pytest
from command_line import COMPARE, EVALUATE, GENERATE, GOOD, INSPECT, RECORDS, STEPS, TOKENIZER, TRAIN, to_arguments
from places import REPOSITORY

from algpt2.cli import LogFormatter

QUIET = {
    **{script: (script, {}) for script in (TOKENIZER, RECORDS, COMPARE, EVALUATE, GENERATE)},
    "train": (TRAIN, {"steps": 5, "jit_compile": None, "log_every_steps": 2, "save_every_steps": 3}),
    "dry run": (TRAIN, {"dry_run": True}),
    "doctor": (TRAIN, {"doctor": True}),
}
SILENT = (GENERATE, "dry run")
LOG_LINE = r"\d\d-\d\d \d\d:\d\d:\d\d (step|resuming|\d+ parameters|records and the work)"
PROGRESS, TABLE, FINDING = r"[a-z ]+: +\d+%\|", r"\|", r"(ok|warning) +[a-z_ ]+: "
OUR_LINE = re.compile(f"{LOG_LINE}|{PROGRESS}|{TABLE}|{FINDING}")
TENSORFLOW_LINE = re.compile(r"\.(cc|h):\d+\] ")


@pytest.fixture
def places(good, tmp_path):
    """What the braces in flags stand for."""
    return {"good": good, "out": tmp_path / "out"}


def process(script, flags, places):
    """Runs a script as a user does, whose environment does not say how much TensorFlow logs."""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, str(REPOSITORY / script), *to_arguments({**GOOD[script], **flags}, places)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)


def lines_on_stderr(ended):
    """Returns the lines, those that a bar of progress overwrites among them, of a process that must end well."""
    assert ended.returncode == 0, ended.stderr[-2000:]
    return [line for line in re.split(r"[\r\n]+", ended.stderr) if line.strip()]


@pytest.mark.parametrize(
    ("level", "said"),
    [(logging.DEBUG, "debug: no news"), (logging.INFO, "no news"), (logging.WARNING, "warning: no news")],
)
def test_a_log_line_has_day_time_and_text_and_its_level_where_it_is_not_information(level, said):
    line = LogFormatter().format(logging.LogRecord("absl", level, "file.py", 7, "no %s", ("news",), None))
    assert re.fullmatch(rf"\d\d-\d\d \d\d:\d\d:\d\d {said}", line)


@pytest.mark.parametrize("command", QUIET)
def test_a_command_writes_only_its_own_lines_to_stderr(command, places):
    script, flags = QUIET[command]
    lines = lines_on_stderr(process(script, flags, places))
    assert [line for line in lines if not OUR_LINE.match(line)] == []
    assert bool(lines) == (command not in SILENT)


def test_a_report_writes_nothing_to_stderr(places):
    pytest.importorskip("matplotlib", reason="needs the report extra")
    command = [sys.executable, str(REPOSITORY / "data_tools/report.py"), str(places["good"] / "gpt2")]
    ended = subprocess.run([*command, "--output", f"{places['out']}.html"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_verbosity_brings_tensorflows_messages_back(places):
    lines = lines_on_stderr(process(INSPECT, {"verbosity": 1}, places))
    assert any(TENSORFLOW_LINE.search(line) for line in lines)
    assert any(re.match(r"\d\d-\d\d \d\d:\d\d:\d\d debug: ", line) for line in lines)


def test_a_rehearsal_that_is_refused_is_one_line(places):
    ended = process(TRAIN, {"rehearse": "v3-8", "batch_size": 4}, places)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: .*\n", ended.stderr)


def test_a_dry_run_does_not_load_tensorflow(good):
    arguments = to_arguments({**GOOD[TRAIN], "dry_run": True}, {"good": good, "out": good / "none"})
    program = (
        f"import runpy, sys; status = runpy.run_path({str(REPOSITORY / TRAIN)!r})['main'](sys.argv[1:]); "
        "sys.exit(status or 'tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert json.loads(ended.stdout)["steps"] == STEPS
    assert not (good / "none").exists()


def test_an_inspection_writes_exactly_one_json_object_to_stdout_and_nothing_to_stderr(places, outcomes):
    ended = process(INSPECT, {}, places)
    assert lines_on_stderr(ended) == []
    assert json.loads(ended.stdout) == outcomes["inspection"].result


def test_a_users_error_in_a_process_is_one_line_on_stderr_without_a_traceback(tmp_path):
    ended = process(TOKENIZER, {}, {"good": tmp_path / "none", "out": tmp_path / "out"})
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert f"{tmp_path}/none/corpus.jsonl" in ended.stderr
