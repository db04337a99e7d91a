"""Pipes, sockets, links and folders where a command reads or writes a file: one sentence, and what was there stays."""

import os
import socket
import stat
from pathlib import Path

import pytest
from command_line import (
    COMPARE,
    DEMO,
    EVALUATE,
    GENERATE,
    GOOD,
    INSPECT,
    RECORDS,
    REPORT,
    TOKENIZER,
    TRAIN,
    call,
    case_name,
    to_arguments,
)

pytestmark = pytest.mark.timeout(120, method="signal")  # Who opens a pipe that nobody else has opened waits for ever.
AVERAGE, INDEX = "data_tools/average_checkpoints.py", "data_tools/index_tfrecords.py"


@pytest.fixture
def odd(tmp_path, monkeypatch):
    """A folder with everything that is no file, and with links to it."""
    folder = tmp_path / "odd"
    folder.mkdir()
    monkeypatch.chdir(folder)  # the name of a socket has a limit
    for name in ("pipe", "pipe.json", "pipe.jsonl"):
        os.mkfifo(name)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
    os.mkdir("folder")
    Path("folder/mine").write_text("mine")
    os.symlink("pipe", "link_to_pipe")
    os.symlink("nothing", "link_to_nothing")
    return folder


def state(folder):
    """Returns the type, the inode and the size of everything below a folder."""
    found = [(path, os.lstat(path)) for path in sorted(folder.rglob("*"))]
    return [(path.name, stat.S_IFMT(one.st_mode), one.st_ino, one.st_size) for path, one in found]


OUTPUTS = {
    DEMO: {"output": "{path}"},
    TOKENIZER: {"output": "{path}"},
    RECORDS: {"output": "{path}"},
    TRAIN: {"model_dir": "{path}"},
    AVERAGE: {"checkpoint": ["{good}/gpt2", "{good}/gpt2"], "output": "{path}"},
}


@pytest.mark.parametrize("script", OUTPUTS)
@pytest.mark.parametrize("name", ["pipe", "socket", "link_to_pipe", "link_to_nothing", "folder"])
def test_an_output_folder_takes_the_place_of_nothing(scripts, good, odd, script, name):
    before = state(odd)
    arguments = to_arguments({**GOOD.get(script, {}), **OUTPUTS[script]}, {"good": good, "path": odd / name})
    outcome = call(scripts[script]["main"], arguments)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "must be new or empty" in outcome.sentence or f"must be a folder, and {odd / name}" in outcome.sentence
    assert str(odd / name) in outcome.sentence
    assert state(odd) == before


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("name", ["pipe", "socket", "link_to_pipe", "folder"])
def test_a_page_never_takes_the_place_of_what_is_no_file(scripts, good, odd, name, overwrite):
    before = state(odd)
    outcome = call(scripts[REPORT]["main"], [f"{good}/gpt2", "--output", str(odd / name), *overwrite])
    assert (outcome.status, outcome.stdout) == (2, "")
    assert ("may only be new or replace a file" if overwrite else "must be a new file") in outcome.sentence
    assert str(odd / name) in outcome.sentence
    assert state(odd) == before


def test_a_page_replaces_what_a_link_leads_to_only_if_told_to(scripts, good, odd):
    arguments = [f"{good}/gpt2", "--output", str(odd / "link_to_nothing")]
    assert call(scripts[REPORT]["main"], arguments).status == 2
    assert not (odd / "nothing").exists()
    assert call(scripts[REPORT]["main"], [*arguments, "--overwrite"]).status == 0
    assert (odd / "link_to_nothing").is_symlink()
    assert (odd / "nothing").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("name", ["manifest.json", "vocab.json"])
def test_an_index_takes_the_place_of_nothing(scripts, good, tmp_path, name):
    for shard in (good / "records").glob("*.tfrecord"):
        os.symlink(shard, tmp_path / shard.name)
    os.symlink(tmp_path / "nothing", tmp_path / name)
    before = state(tmp_path)
    outcome = call(scripts[INDEX]["main"], ["--input", str(tmp_path), "--tokenizer", f"{good}/tokenizer"])
    assert outcome.status == 2
    assert f"has {name}: move them elsewhere" in outcome.sentence
    assert state(tmp_path) == before


INPUTS = [
    (TOKENIZER, {"input": "{odd}/pipe.jsonl"}, "a named pipe is at '{odd}/pipe.jsonl'"),
    (TOKENIZER, {"input": "{odd}/socket"}, "a socket is at '{odd}/socket'"),
    (TOKENIZER, {"input": "{odd}/link_to_nothing"}, "a symbolic link that leads nowhere is at"),
    (RECORDS, {"input": "{odd}/link_to_pipe"}, "a named pipe is at '{odd}/link_to_pipe'"),
    (RECORDS, {"tokenizer": "{odd}/pipe"}, "must hold tokenizer.json"),
    (INSPECT, {"input": "{odd}/pipe"}, "must hold manifest.json"),
    (TRAIN, {"train_path": "{odd}/pipe"}, "{odd}/pipe"),
    (TRAIN, {"config_path": "{odd}/pipe.json"}, "must be a file, and {odd}/pipe.json is a named pipe"),
    (COMPARE, {"run": "{odd}/pipe"}, "{odd}/pipe"),
    (COMPARE, {"evaluation": ["{odd}/pipe", "{odd}/folder"]}, "must be a file, and {odd}/pipe is a named pipe"),
    (COMPARE, {"evaluation": ["{odd}/folder", "{odd}/pipe"]}, "must be a file, and {odd}/folder is a folder"),
    (EVALUATE, {"data": "{odd}/pipe"}, "must be a file, and {odd}/pipe is a named pipe"),
    (EVALUATE, {"checkpoint": "{odd}/pipe"}, "{odd}/pipe"),
    (GENERATE, {"checkpoint": "{odd}/pipe"}, "{odd}/pipe"),
    (REPORT, {"RUN": "{odd}/pipe"}, "{odd}/pipe"),
]


@pytest.mark.parametrize("case", INPUTS, ids=case_name)
def test_what_is_no_file_is_not_read_and_no_command_waits_for_it(run_script, good, odd, tmp_path, case):
    script, changes, expected = case
    outcome = run_script(script, {"good": good, "odd": odd, "out": tmp_path / "out"}, **changes)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert expected.format(odd=odd) in outcome.sentence


def test_records_in_a_folder_with_marks_of_a_pattern_are_trained_on(run_script, good, tmp_path):
    places = {"good": good, "out": tmp_path / "a[1]"}
    assert run_script(RECORDS, places).status == 0
    folder, run = f"{tmp_path}/a[1]", {"good": good, "out": tmp_path / "run"}
    changes = {"val_path": folder, "steps": 1, "dry_run": True}
    whole = run_script(TRAIN, run, **changes, train_path=folder).result
    for path in ([f"{folder}/train-*"], sorted(map(str, (tmp_path / "a[1]").glob("train-*")))):
        assert run_script(TRAIN, run, **changes, train_path=path).result == whole
    trained = run_script(TRAIN, run, val_path=folder, steps=1, train_path=folder).result
    assert trained["step"] == 1
