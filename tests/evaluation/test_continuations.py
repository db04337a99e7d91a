"""How pairs of texts become ids, and in which windows those are scored."""

import types

import numpy as np
import pytest
import zero_shot_files

from algpt2.errors import UserError
from algpt2.evaluation.continuations import (
    Continuation,
    encode_apart,
    encode_together,
    score_continuations,
    window_length,
)
from algpt2.evaluation.scorer import WindowScore


class RecordingScorer:
    """Gives each window the sum of its scored targets, and keeps all windows by their length."""

    def __init__(self, seq_len):
        self.model = types.SimpleNamespace(config=types.SimpleNamespace(seq_len=seq_len))
        self.passes = []

    def score_windows(self, windows):
        windows = list(windows)
        self.passes.append(windows)
        for window in windows:
            yield WindowScore(float((window.targets * window.scored).sum()), int(window.scored.sum()), True)


@pytest.fixture(scope="module")
def tokenizer():
    return zero_shot_files.word_tokenizer()


def test_white_space_at_the_end_of_a_context_belongs_to_the_continuation(tokenizer):
    together = encode_together(tokenizer, [("the cat", " sat"), ("the cat ", "sat"), ("the cat \n", "sat")])
    assert together[0] == together[1]
    assert tokenizer.decode(together[0].context_ids) == "the cat"
    assert [tokenizer.decode(one.ids) for one in together] == [" sat", " sat", " \nsat"]
    apart = encode_apart(tokenizer, [("the cat ", "sat")])
    assert (tokenizer.decode(apart[0].context_ids), tokenizer.decode(apart[0].ids)) == ("the cat ", "sat")


def test_eos_stands_in_for_a_context_of_which_nothing_is_left(tokenizer):
    empty, blank = encode_together(tokenizer, [("", "the cat"), (" ", "the cat")])
    assert empty == Continuation((tokenizer.eos_id,), tuple(tokenizer.encode("the cat")))
    assert blank == Continuation((tokenizer.eos_id,), tuple(tokenizer.encode(" the cat")))


def test_windows_have_few_lengths_of_which_each_holds_its_inputs_without_much_padding():
    lengths = [window_length(n, 1024) for n in range(1, 2000)]
    assert sorted(set(lengths)) == [16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
    assert all(length >= min(n, 1024) for n, length in enumerate(lengths, start=1))
    assert all(length <= 16 or length < n * 1.5 for n, length in enumerate(lengths, start=1))
    assert {window_length(n, 10) for n in range(1, 30)} == {10}
    assert {window_length(n, 100) for n in range(90, 130)} == {96, 100}


def test_scores_come_in_the_order_of_the_texts_and_equal_texts_are_scored_once():
    scorer = RecordingScorer(64)
    short, long = Continuation((1,), (2, 3)), Continuation(tuple(range(40)), (7, 8, 9))
    scores = score_continuations(scorer, [short, long, short, Continuation((5,), (6,))])
    assert scores.nats.tolist() == [5, 24, 5, 6]
    assert scores.tokens.tolist() == [2, 3, 2, 1]
    assert scores.counts() == {"scored_tokens": 8, "cut_contexts": 0}
    assert [[len(window.inputs) for window in windows] for windows in scorer.passes] == [[48], [16, 16]]


def test_a_context_that_is_too_long_is_cut_from_the_left_and_counted():
    scorer = RecordingScorer(16)
    scores = score_continuations(scorer, [Continuation(tuple(range(100, 130)), (1, 2, 3)), Continuation((4,), (5,))])
    assert scores.is_cut.tolist() == [True, False]
    ((window, _),) = scorer.passes
    np.testing.assert_array_equal(window.inputs, [*range(116, 130), 1, 2])
    assert scores.nats.tolist() == [6, 5]


@pytest.mark.parametrize(("ids", "count"), [((), 0), (tuple(range(17)), 17)])
def test_a_continuation_without_a_token_or_with_more_than_the_model_has_positions_is_refused(ids, count):
    with pytest.raises(UserError, match=f"from 1 token to the model's seq_len of 16, and one text has {count}"):
        score_continuations(RecordingScorer(16), [Continuation((1,), ids)])
    assert score_continuations(RecordingScorer(16), [Continuation((1, 2), tuple(range(16)))]).tokens.tolist() == [16]
