"""Scoring ids: every one once, in its right context, whatever the windows and batches."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG, randomised

from algpt2.evaluation import scorer
from algpt2.evaluation.scorer import Scorer, windows
from algpt2.model.gpt import GPT

SEQ_LEN = GPT2_CONFIG.seq_len


@settings(deadline=None)
@given(n_ids=st.integers(0, 60), seq_len=st.integers(1, 20), stride=st.data())
def test_windows_score_every_id_but_the_first_exactly_once_in_its_right_context(n_ids, seq_len, stride):
    stride = stride.draw(st.integers(1, seq_len))
    ids = np.arange(100, 100 + n_ids)  # an id says where it stands
    found = list(windows(ids, seq_len, stride))
    scored = [int(target) for window in found for target in window.targets[window.scored == 1]]
    assert scored == ids[1:].tolist()
    for number, window in enumerate(found):
        assert [array.shape for array in dataclasses.astuple(window)] == [(seq_len,)] * 3
        assert set(window.scored) <= {0, 1}
        filled = np.flatnonzero(window.targets)
        # A contiguous piece of the text from the window's start on, then padding that counts for nothing.
        assert filled.tolist() == list(range(len(filled)))
        assert window.inputs[filled].tolist() == list(range(100 + number * stride, 100 + number * stride + len(filled)))
        assert (window.targets[filled] == window.inputs[filled] + 1).all()
        assert window.scored[len(filled) :].sum() == 0
        # After the first window, a target has at least seq_len - stride tokens of context before its window's new part.
        if number:
            assert np.flatnonzero(window.scored).min() == seq_len - stride


def test_the_number_of_windows_is_the_least_that_reaches_the_end():
    assert len(list(windows(np.arange(17), 16, 16))) == 1
    assert len(list(windows(np.arange(18), 16, 16))) == 2
    assert len(list(windows(np.arange(33), 16, 8))) == 3


@pytest.mark.filterwarnings("ignore:You are using a softmax over axis -1")  # of a context of one token
@pytest.mark.parametrize(("config", "stride"), [(GPT2_CONFIG, SEQ_LEN), (ALGPT2_CONFIG, 5)])
def test_the_total_is_that_of_a_loop_that_scores_token_by_token_without_padding(config, stride, rng):
    model = randomised(config)
    ids = rng.integers(config.vocab_size, size=38)
    expected = 0.0
    for i in range(1, len(ids)):
        # The first window that reaches token i begins at the smallest multiple of stride from i - seq_len on.
        start = max(0, math.ceil((i - SEQ_LEN) / stride)) * stride
        logits = model(ids[None, start:i].astype("int32")).numpy()[0, -1].astype(np.float64)
        expected += np.log(np.exp(logits - logits[ids[i]]).sum())
    total_nats, n_scored = Scorer(model, batch_size=3).score(ids, stride)
    assert n_scored == 37
    assert total_nats == pytest.approx(expected, rel=1e-6)


def test_a_pass_has_no_more_rows_than_the_text_has_windows(monkeypatch, rng):
    """A batch of 10^9 rows that score nothing would take hours, or all memory."""
    rows, head_nats = [], scorer.head_nats
    monkeypatch.setattr(
        scorer, "head_nats", lambda *arguments: rows.append(arguments[2].shape[0]) or head_nats(*arguments)
    )
    model, ids = randomised(GPT2_CONFIG), rng.integers(GPT2_CONFIG.vocab_size, size=70)
    total_nats, tokens = Scorer(model, batch_size=10**23).score(ids, SEQ_LEN)  # 5 windows
    assert (total_nats, tokens) == (pytest.approx(Scorer(model, batch_size=5).score(ids, SEQ_LEN).total_nats), 69)
    assert rows == [4, 5]


def test_short_texts_of_all_lengths_take_few_graphs():
    assert {scorer.rows_of_pass(100, n) for n in range(200)} == {1, 2, 4, 8, 16, 32, 64, 100}
    assert all(scorer.rows_of_pass(100, n) <= n for n in range(1, 100))


@settings(deadline=None)
@given(n_ids=st.integers(0, 60), seq_len=st.integers(1, 20), stride=st.data())
def test_windows_are_counted_without_making_them(n_ids, seq_len, stride):
    stride = stride.draw(st.integers(1, seq_len))
    assert scorer.window_count(n_ids, seq_len, stride) == len(list(windows(np.arange(n_ids), seq_len, stride)))


def test_batch_size_does_not_change_the_result(rng):
    model = randomised(GPT2_CONFIG)
    ids = rng.integers(GPT2_CONFIG.vocab_size, size=70)  # 5 windows: the last batch is full, padded by 1, padded by 3
    (one, n_one), *others = (Scorer(model, batch_size).score(ids, SEQ_LEN) for batch_size in (1, 2, 8))
    assert n_one == 69
    assert others == [(pytest.approx(one, rel=1e-6), n_one)] * 2


def test_texts_of_any_length_and_stride_that_fill_a_batch_are_scored_by_one_graph(monkeypatch, rng):
    """Python runs `head_nats` once for each graph that is made."""
    traced, head_nats = [], scorer.head_nats
    monkeypatch.setattr(scorer, "head_nats", lambda *arguments: traced.append(arguments) or head_nats(*arguments))
    one = Scorer(randomised(GPT2_CONFIG), batch_size=2)
    texts = [(rng.integers(GPT2_CONFIG.vocab_size, size=n), stride) for n, stride in ((70, 16), (18, 16), (40, 7))]
    scores = [one.score(ids, stride) for ids, stride in texts]
    assert len(traced) == 1
    for (ids, stride), score in zip(texts, scores, strict=True):
        assert Scorer(one.model, batch_size=2).score(ids, stride) == score


def test_a_scorer_scores_with_the_parameters_at_the_time_of_the_call(rng):
    model, ids = randomised(GPT2_CONFIG), rng.integers(GPT2_CONFIG.vocab_size, size=30)
    one = Scorer(model, batch_size=2)
    before = one.score(ids, SEQ_LEN)
    for parameter in model.named_parameters().values():
        parameter.assign(np.zeros(parameter.shape))
    assert one.score(ids, SEQ_LEN) == (pytest.approx(29 * math.log(GPT2_CONFIG.vocab_size), rel=1e-6), 29) != before


def test_nats_are_summed_in_float64(monkeypatch):
    """Added to 2^24, a float32 1 vanishes: a long text's total would stand still."""
    monkeypatch.setattr(scorer, "head_nats", lambda hidden, table, targets: tf.where(targets == 1, 2.0**24, 1.0))
    ids = np.array([0, 1] + [0] * 30)
    assert Scorer(GPT(GPT2_CONFIG), batch_size=2).score(ids, SEQ_LEN) == (2.0**24 + 30, 31)
