"""The memory of a preparation does not grow with its input."""

import json
import tracemalloc

import numpy as np
import pytest

from algpt2.config.records import RecordOptions
from algpt2.preparation import encoding, plan
from algpt2.preparation.preparation import make_tfrecords
from algpt2.text import ngram_hashes
from algpt2.text.tokenizer import Tokenizer

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
# As those of the program, so many times smaller.
SMALLER = {"LEAST_PIECE_BYTES": 1 << 14, "MOST_PIECE_BYTES": 1 << 16, "BIN_BYTES": 1 << 13}


def write_text(path, documents):
    words = np.random.default_rng(0).choice(WORDS, size=(documents, 60))
    path.write_text("".join(json.dumps({"text": f"{n} " + " ".join(row)}) + "\n" for n, row in enumerate(words)))
    return str(path)


def peak_bytes(path, tokenizer, output, options):
    """The most that Python and NumPy had at a time; what libraries have beside that is not in it."""
    tracemalloc.start()
    make_tfrecords([path], tokenizer, output, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


CLEANING = {
    "as it is": {},
    "without copies": {"deduplicate": True},
    "without near copies": {"deduplicate": True, "near_duplicates": 0.8},
}


@pytest.mark.parametrize("changes", CLEANING.values(), ids=CLEANING)
def test_eight_times_the_text_takes_about_the_same_memory(tmp_path, monkeypatch, changes):
    """Catches a stage that holds the whole text, a whole split, or all of its ids."""
    for name, value in SMALLER.items():
        monkeypatch.setattr(plan, name, value)
    monkeypatch.setattr(encoding, "BATCH_DOCUMENTS", 32)
    monkeypatch.setattr(ngram_hashes, "LEAST_POWERS", 1 << 10)
    tokenizer, options = str(tmp_path / "tokenizer"), RecordOptions(64, 4, val_fraction=0.1, **changes)
    Tokenizer.train(WORDS, 280).save(tokenizer)
    peaks = {}
    for count in (20, 300, 2400):  # The first time, libraries are imported.
        text = write_text(tmp_path / f"{count}.jsonl", count)
        peaks[count] = peak_bytes(text, tokenizer, str(tmp_path / f"{count}"), options)
    assert peaks[2400] < 1.5 * peaks[300]
