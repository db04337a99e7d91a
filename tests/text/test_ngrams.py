"""Words in a row that documents share with other texts: the same as by comparing all of them, one by one."""

import random
import re

import numpy as np
import pytest

from algpt2.text import ngrams
from algpt2.text.ngrams import Ngrams

WORDS = ["the", "cat", "sat", "on", "a", "mat"]


def rows_of(text, words):
    found = re.findall("[a-z0-9]+", text.lower())
    return {tuple(found[place : place + words]) for place in range(len(found) - words + 1)}


def random_texts(draws, count, vocabulary):
    return [" ".join(draws.choices(vocabulary, k=draws.randint(0, 12))) for _ in range(count)]


@pytest.mark.parametrize("words", [1, 2, 3, 5])
def test_documents_are_told_as_by_comparing_all_rows_of_words(words):
    draws = random.Random(words)
    texts = random_texts(draws, 40, WORDS[:5])
    expected = set().union(*(rows_of(text, words) for text in texts))
    documents = random_texts(draws, 300, [*WORDS, "dog"])
    found = Ngrams(texts, words)
    told = [found.are_shared_with(document) for document in documents]
    assert told == [bool(rows_of(document, words) & expected) for document in documents]
    assert found.short_texts == sum(len(text.split()) < words for text in texts)
    assert words == 1 or {True, False} == set(told)


@pytest.mark.parametrize(
    "document", ["THE cat, sat!", "the_cat--sat", "x the\n\ncat\t'sat'", "\u00abthe cat @-@ sat\u00bb"]
)
def test_neither_case_nor_what_stands_between_words_counts(document):
    assert Ngrams(["the cat sat"], 3).are_shared_with(document)


def test_words_are_letters_and_digits_of_any_script():
    assert Ngrams(["\u00c9t\u00e9 2024 \u65e5\u672c"], 3).are_shared_with("un \u00e9t\u00e9, 2024: \u65e5\u672c.")
    assert not Ngrams(["\u00e9t\u00e9 one two"], 3).are_shared_with("ete one two")


def test_no_row_goes_from_one_text_into_another_or_over_another_word():
    found = Ngrams(["the cat", "sat on"], 3)
    assert found.count == 0
    assert not found.are_shared_with("the cat sat on")
    assert not Ngrams(["the cat sat"], 3).are_shared_with("the cat dog sat")


def test_words_with_one_hash_are_compared_themselves(monkeypatch):
    monkeypatch.setattr(ngrams, "HASH_FACTOR", np.uint64(1))  # so that any order of the same words has one hash
    found = Ngrams(["the cat sat", "sat on the"], 3)
    assert not found.are_shared_with("sat cat the")
    assert found.are_shared_with("on the cat sat")


def test_an_empty_document_and_no_texts_share_nothing():
    assert not Ngrams(["the cat sat"], 3).are_shared_with("")
    assert not Ngrams([], 1).are_shared_with("the cat")
