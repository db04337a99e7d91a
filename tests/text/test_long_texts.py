"""Long texts: their parts have the ids of the whole, and what has no break in it is found."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algpt2.text import long_texts
from algpt2.text.long_texts import first_unbroken, parts_of
from algpt2.text.tokenizer import Tokenizer

TRAINED_ON = [
    f"the cat isn't '{n}'-th, they'll say \u00e9\u00e8 \u65e5\u672c n\u00b2 {n}a\n\n  \tx_1 (I'd)" for n in range(50)
]
SIGNS = "aZz09'\"-_(!~ \n\t\r\x1c\x00\x85\u00a0\u2028\u0301\u00b2\u0660\u00e9\u65e5\U0001f600"
TEXTS = st.text(max_size=30) | st.text(SIGNS, max_size=40) | st.sampled_from(TRAINED_ON)


@pytest.fixture(scope="module")
def trained():
    """It has merges across the kinds of characters: its training text is all one word for each pair of them."""
    return Tokenizer.train([*TRAINED_ON, *(f"{left}{right}" * 3 for left in SIGNS for right in SIGNS)], 900)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, characters=st.integers(1, 9))
def test_the_ids_of_parts_are_those_of_the_whole(trained, text, characters):
    parts = [*parts_of(text, characters)]
    assert "".join(parts) == text
    assert [id_ for part in parts for id_ in trained.encode(part)] == trained.encode(text)


def test_parts_are_about_as_long_as_asked_for():
    text = "word, " * 1000
    assert {len(part) for part in [*parts_of(text, 100)][:-1]} <= {*range(100, 106)}
    assert [*parts_of("")] == [""]


def test_a_tokenizer_gives_a_long_text_among_others_its_ids(trained, monkeypatch):
    texts = [TRAINED_ON[0], "", "".join(TRAINED_ON), "x"]
    expected, listed = trained.encode_arrays(texts), trained.encode_batch(texts)
    monkeypatch.setattr(long_texts, "LONG_CHARACTERS", 10)
    monkeypatch.setattr(long_texts.parts_of, "__defaults__", (7,))
    for found, wanted in zip(trained.encode_arrays(texts), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    assert trained.encode_batch(texts) == listed
    assert Tokenizer.train(["".join(TRAINED_ON)], 300).sha256 == trained_whole(monkeypatch).sha256


def trained_whole(monkeypatch):
    monkeypatch.setattr(long_texts.parts_of, "__defaults__", (10**9,))
    return Tokenizer.train(["".join(TRAINED_ON)], 300)


PEAK_OF = """
import resource, sys
from algpt2.text.tokenizer import Tokenizer

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

tokenizer = Tokenizer.train(["the cat sat"], 300)
before = peak()
text = " internationalisation" * (int(sys.argv[1]) // 20)
tokenizer.encode_arrays([text]) if sys.argv[2] == "encode" else Tokenizer.train([text], 300)
print(peak() - before)
"""


@pytest.mark.parametrize("work", ["encode", "train"])
def test_the_memory_of_a_long_text_is_a_small_multiple_of_it(work):
    """Catches a text handed to the library as a whole, which takes 100 bytes a byte."""
    ended = subprocess.run(
        [sys.executable, "-c", PEAK_OF, str(3 << 20), work], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) < 170


@pytest.mark.parametrize("sign", ["a", " ", "\0", "\u65e5"])
def test_a_text_without_a_break_is_found_wherever_it_stands(monkeypatch, sign):
    monkeypatch.setattr(long_texts, "MOST_UNBROKEN_CHARACTERS", 500)
    monkeypatch.setattr(long_texts, "PART_CHARACTERS", 100)
    words, run = "some words " * 200, sign * 700
    assert first_unbroken(words) is None
    assert first_unbroken(run[:500]) is None
    for before in (0, 1000, 1100):
        place = first_unbroken(words[:before] + run + words)
        assert before - 1 <= place <= before + 100
