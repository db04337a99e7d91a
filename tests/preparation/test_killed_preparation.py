"""A preparation that is killed at any moment, again and again, ends in the bytes of one that is not."""

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
from algpt2.preparation.preparation import make_tfrecords
from algpt2.text.tokenizer import Tokenizer

TEXTS = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 50) for n in range(2000)]
OPTIONS = RecordOptions(seq_len=16, num_shards=8, val_fraction=0.1)
KILLS = 10
# With pieces this small there are many moments between two of them.
PROGRAM = """
import sys
from algpt2.config.records import RecordOptions
from algpt2.preparation import plan
from algpt2.preparation.preparation import make_tfrecords

plan.LEAST_PIECE_BYTES = 1 << 15
if __name__ == "__main__":
    print("begun", flush=True)
    options = RecordOptions(seq_len=16, num_shards=8, val_fraction=0.1)
    make_tfrecords([sys.argv[1]], sys.argv[2], sys.argv[3], options, num_workers=int(sys.argv[4]))
"""


@pytest.fixture
def program(tmp_path):
    """The command line of a preparation of many pieces into `tmp_path / data`, but for the number of processes."""
    Tokenizer.train(TEXTS, 300).save(str(tmp_path / "tokenizer"))
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    (tmp_path / "program.py").write_text(PROGRAM)
    arguments = [str(tmp_path / name) for name in ("program.py", "documents.jsonl", "tokenizer", "data")]
    return [sys.executable, *arguments]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def begun(command):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY)
    assert process.stdout.readline() == b"begun\n"
    return process


def test_kills_at_random_moments_change_nothing_of_the_result(tmp_path, program, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 15)
    tokenizer, documents = str(tmp_path / "tokenizer"), str(tmp_path / "documents.jsonl")
    start = time.monotonic()
    make_tfrecords([documents], tokenizer, str(tmp_path / "expected"), OPTIONS)
    seconds = time.monotonic() - start
    kills, moments, data = 0, random.Random(0), tmp_path / "data"
    while kills < KILLS:
        process = begun([*program, "1"])
        time.sleep(moments.uniform(0, seconds / 4))
        process.send_signal(signal.SIGKILL)
        killed = process.wait() == -signal.SIGKILL
        process.stdout.close()
        if not killed:
            break
        kills += 1
        if (data / "manifest.json").exists() and not (data / "unfinished").exists():
            break  # It was killed on its way out, with all done, and the same command would rightly be refused.
    assert kills >= 3
    if (data / "unfinished").exists():
        subprocess.run([*program, "1"], check=True, cwd=REPOSITORY, capture_output=True)
    assert contents(tmp_path / "data") == contents(tmp_path / "expected")


def test_workers_end_with_their_parent_and_another_number_of_them_goes_on(tmp_path, program, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 15)
    process = begun([*program, "2"])
    while not list((tmp_path / "data").glob("unfinished/*.json")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    tokenizer, documents = str(tmp_path / "tokenizer"), str(tmp_path / "documents.jsonl")
    make_tfrecords([documents], tokenizer, str(tmp_path / "data"), OPTIONS)
    make_tfrecords([documents], tokenizer, str(tmp_path / "expected"), OPTIONS)
    assert contents(tmp_path / "data") == contents(tmp_path / "expected")
