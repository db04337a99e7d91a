"""Hashes of n-grams: those of equal words are equal, in any process, and those of other words are others."""

import re

import pytest

from algpt2.text import long_texts, ngram_hashes

TEXTS = [
    "One two three four five six seven. One two three four five!",
    "one_two THREE-four five 6 seven\u00e9 \u4e2d\u6587\u3002\u4e2d\u6587 \u0130 \u03a3\u039f\u03a3 \U0001d400",
    *("", "?!", "one", "one two", "two one", "one two three four", "one  two\nthree four five", "a" * 50, "\x00"),
    " ".join(f"word{n % 90} {n % 70}" for n in range(500)),
]


def ngrams_of(text):
    words = re.findall(r"[^\W_]+", text.lower())
    return [tuple(words[first : first + 5]) for first in range(max(1, len(words) - 4))] if words else []


def hashes_of(texts):
    hashes, starts = ngram_hashes.ngram_hashes(texts)
    return [hashes[int(first) : int(end)].tolist() for first, end in zip(starts, starts[1:], strict=False)]


def test_an_ngram_of_the_same_words_has_the_same_hash_and_no_other_has():
    found = {}
    for text, hashes in zip(TEXTS, hashes_of(TEXTS), strict=True):
        for ngram, value in zip(ngrams_of(text), hashes, strict=True):
            assert found.setdefault(ngram, value) == value
    assert len(set(found.values())) == len(found) > 300


@pytest.mark.parametrize("characters", [1, 10, 100])
def test_a_long_text_in_blocks_and_a_text_alone_have_the_hashes_of_the_whole(monkeypatch, characters):
    expected = hashes_of(TEXTS)
    assert [hashes_of([text])[0] for text in TEXTS] == expected
    monkeypatch.setattr(long_texts, "LONG_CHARACTERS", 20)
    monkeypatch.setattr(ngram_hashes, "BLOCK_CHARACTERS", characters)
    assert hashes_of(TEXTS) == expected


def test_the_hashes_are_these_in_every_process_and_on_every_machine():
    assert hashes_of(["One two three, four FIVE \u00e9t\u00e9!"]) == [[0xA3ACE22C3CB3C732, 0x80C659352E1F4026]]
