"""A preparation that is killed at any moment, again and again, ends in the bytes of one that is not."""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time

import pytest
from places import REPOSITORY

from algpt2.config.records import RecordOptions
from algpt2.preparation import plan
from algpt2.preparation.mixture import Input
from algpt2.preparation.preparation import make_tfrecords
from algpt2.text.tokenizer import Tokenizer

TEXTS = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 50) for n in range(2000)]
TEXTS += [text.upper() for text in TEXTS[::10]]  # They have the words of others.
OPTIONS = RecordOptions(seq_len=16, num_shards=8, val_fraction=0.1)
# The same documents as two inputs: those of the second are duplicates, and some of the first are taken twice.
WEIGHTS = {"plain": [None], "cleaned": [1.5, 0.5]}
KILLS = 10
# With pieces this small there are many moments between two of them.
PROGRAM = """
import json, sys
from algpt2.config.records import RecordOptions
from algpt2.preparation import plan
from algpt2.preparation.mixture import Input
from algpt2.preparation.preparation import make_tfrecords
from algpt2.storage import json_files

plan.LEAST_PIECE_BYTES = 1 << 15
if __name__ == "__main__":
    print("begun", flush=True)
    inputs = [Input((sys.argv[1],), weight) for weight in json.loads(sys.argv[4])]
    options = json_files.build(RecordOptions, json.loads(sys.argv[5]))
    make_tfrecords(inputs, sys.argv[2], sys.argv[3], options, num_workers=int(sys.argv[6]))
"""


@pytest.fixture
def program(tmp_path):
    """A function that gives the command line of a preparation of many pieces into `tmp_path / data`."""
    Tokenizer.train(TEXTS, 300).save(str(tmp_path / "tokenizer"))
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [str(tmp_path / name) for name in ("program.py", "documents.jsonl", "tokenizer", "data")]

    def command(num_workers, kind="plain"):
        options = json.dumps(dataclasses.asdict(options_of(kind, tmp_path / "removed.jsonl")))
        return [sys.executable, *arguments, json.dumps(WEIGHTS[kind]), options, str(num_workers)]

    return command


def options_of(kind, removed):
    cleaning = (
        {"deduplicate": True, "near_duplicates": 0.8, "removed_documents": str(removed)} if kind == "cleaned" else {}
    )
    return dataclasses.replace(OPTIONS, **cleaning)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_done(output):
    """Whether a process has done all, even if it was killed on its way out: then the same command would be refused."""
    return (output / "manifest.json").exists() and not (output / "unfinished").exists()


def begun(command):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY)
    assert process.stdout.readline() == b"begun\n"
    return process


@pytest.mark.parametrize("kind", WEIGHTS)
def test_kills_at_random_moments_change_nothing_of_the_result(tmp_path, program, monkeypatch, kind):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 15)
    tokenizer, documents = str(tmp_path / "tokenizer"), str(tmp_path / "documents.jsonl")
    inputs = [Input((documents,), weight) for weight in WEIGHTS[kind]]
    start = time.monotonic()
    make_tfrecords(inputs, tokenizer, str(tmp_path / "expected"), options_of(kind, tmp_path / "removed.jsonl"))
    seconds = time.monotonic() - start
    if kind == "cleaned":
        (tmp_path / "removed.jsonl").rename(tmp_path / "expected.jsonl")
    kills, moments = 0, random.Random(0)
    while kills < KILLS:
        process = begun(program(1, kind))
        time.sleep(moments.uniform(0, seconds / 4))
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        process.stdout.close()
        kills += killed
        if not killed or is_done(tmp_path / "data"):
            break
    assert kills >= 3
    if not is_done(tmp_path / "data"):
        ended = subprocess.run(program(1, kind), cwd=REPOSITORY, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
    assert contents(tmp_path / "data") == contents(tmp_path / "expected")
    if kind == "cleaned":
        assert (tmp_path / "removed.jsonl").read_bytes() == (tmp_path / "expected.jsonl").read_bytes()


def test_workers_end_with_their_parent_and_another_number_of_them_goes_on(tmp_path, program, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 15)
    process = begun(program(2))
    while not list((tmp_path / "data").glob("unfinished/*.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    tokenizer, documents = str(tmp_path / "tokenizer"), str(tmp_path / "documents.jsonl")
    make_tfrecords([documents], tokenizer, str(tmp_path / "data"), OPTIONS)
    make_tfrecords([documents], tokenizer, str(tmp_path / "expected"), OPTIONS)
    assert contents(tmp_path / "data") == contents(tmp_path / "expected")
