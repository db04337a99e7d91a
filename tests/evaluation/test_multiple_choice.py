"""Which choice is the answer, by its likelihood as it is, per character and per token."""

import math

import numpy as np
import pytest

from algpt2.evaluation.continuations import ContinuationScores
from algpt2.evaluation.multiple_choice import ChoiceScores


def scores(nats, characters, tokens, labels):
    nats = np.array(nats, np.float64)
    flat = np.array(tokens).ravel()
    choices = ContinuationScores(nats.ravel(), flat, np.zeros(nats.size, bool), np.zeros(nats.size, bool))
    return ChoiceScores(choices, np.array(characters), np.array(labels))


def test_each_norm_has_its_own_answer():
    one = scores([[3.0, 8.0, 9.0]], [[2, 9, 8]], [[1, 3, 4]], [0])
    assert one.answers().tolist() == [0]
    assert one.answers(one.characters).tolist() == [1]
    assert one.answers(one.tokens).tolist() == [2]
    figures = one.figures()
    assert [figures[name] for name in ("acc", "acc_norm_characters", "acc_norm_tokens")] == [1, 0, 0]


def test_the_first_of_equal_choices_is_the_answer_and_one_of_no_length_never_is():
    assert scores([[4.0, 2.0, 2.0]], [[1] * 3], [[1] * 3], [0]).answers().tolist() == [1]
    empty = scores([[1.0, 9.0]], [[0, 3]], [[1, 2]], [0])
    assert empty.answers(empty.characters).tolist() == [1]


def test_the_standard_error_is_that_of_a_mean_over_the_questions():
    four = scores([[1.0, 2.0]] * 4, [[1, 1]] * 4, [[1, 1]] * 4, [0, 0, 0, 1])
    assert four.figures()["acc"] == 0.75
    assert four.figures()["acc_stderr"] == pytest.approx(np.std([1, 1, 1, 0], ddof=1) / math.sqrt(4))
    assert scores([[1.0, 2.0]], [[1, 1]], [[1, 1]], [0]).figures()["acc_stderr"] is None
    assert four.counts() == {"questions": 4, "scored_tokens": 8, "cut_contexts": 0}
