"""Scoring ids: every one once, in its right context, whatever the windows and batches."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG, randomised
from tiny_step import TWO, strategy_of

from algpt2.evaluation import scorer
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.windows import continuation_window, windows
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


def rows_of_graphs(monkeypatch):
    """A list that gets the rows of each graph that is made, for which Python runs `scored_head_nats` once."""
    rows, scored_head_nats = [], scorer.scored_head_nats

    def noted(hidden, table, targets, scored):
        rows.append(targets.shape[0])
        return scored_head_nats(hidden, table, targets, scored)

    monkeypatch.setattr(scorer, "scored_head_nats", noted)
    return rows


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
    rows = rows_of_graphs(monkeypatch)
    model, ids = randomised(GPT2_CONFIG), rng.integers(GPT2_CONFIG.vocab_size, size=70)
    total_nats, tokens = Scorer(model, batch_size=10**23, jit_compile=False).score(ids, SEQ_LEN)  # 5 windows
    assert (total_nats, tokens) == (
        pytest.approx(Scorer(model, batch_size=5, jit_compile=False).score(ids, SEQ_LEN).total_nats),
        69,
    )
    assert rows == [4, 5]


def test_short_texts_of_all_lengths_take_few_graphs():
    assert {scorer.rows_of_pass(100, n) for n in range(1, 200)} == {1, 2, 4, 8, 16, 32, 64, 100}
    assert all(scorer.rows_of_pass(100, n) <= n for n in range(1, 100))


def test_every_replica_has_the_same_number_of_rows():
    assert [scorer.rows_of_pass(5, n, 4) for n in (1, 4, 5)] == [4, 4, 8]
    assert [scorer.rows_of_pass(100, n, 4) for n in (1, 11, 60, 99, 100)] == [4, 8, 32, 64, 100]


def test_short_windows_are_scored_in_passes_as_large_as_long_ones(monkeypatch, rng):
    rows = rows_of_graphs(monkeypatch)
    one = Scorer(randomised(GPT2_CONFIG), batch_size=2, jit_compile=False)
    short = [continuation_window(ids[:3], ids[3:], 4) for ids in rng.integers(GPT2_CONFIG.vocab_size, size=(20, 5))]
    assert len(list(one.score_windows(short))) == 20
    assert rows == [2 * SEQ_LEN // 4]


def test_two_replicas_score_as_one_does(rng):
    ids = rng.integers(GPT2_CONFIG.vocab_size, size=70)
    strategy = strategy_of(TWO)
    with strategy.scope():
        replicated = randomised(GPT2_CONFIG)
    two = Scorer(replicated, batch_size=3, jit_compile=False, strategy=strategy)
    one = Scorer(randomised(GPT2_CONFIG), batch_size=3, jit_compile=False)
    expected = list(one.score_windows(windows(ids, SEQ_LEN, 5)))
    found = list(two.score_windows(windows(ids, SEQ_LEN, 5)))
    assert [score.tokens for score in found] == [score.tokens for score in expected]
    assert [score.nats for score in found] == pytest.approx([score.nats for score in expected], rel=1e-5)
    assert [score.is_greedy for score in found] == [score.is_greedy for score in expected]


def test_windows_are_taken_as_they_are_needed(rng):
    """A text of gigabytes has more windows than memory."""
    taken = []
    stream = (taken.append(w) or w for w in windows(rng.integers(GPT2_CONFIG.vocab_size, size=200), SEQ_LEN, SEQ_LEN))
    next(Scorer(randomised(GPT2_CONFIG), batch_size=2, jit_compile=False).score_windows(stream))
    assert len(taken) == 2


def test_a_continuation_is_scored_after_as_much_of_its_context_as_fits(rng):
    model, ids = randomised(GPT2_CONFIG), rng.integers(GPT2_CONFIG.vocab_size, size=20)
    for context, continuation in ((ids[:5], ids[5:8]), (ids[:18], ids[18:])):
        kept = [*context, *continuation][-(SEQ_LEN + 1) :]
        logits = model(np.array([kept[:-1]], np.int32)).numpy()[0].astype(np.float64)
        nats = np.log(np.exp(logits - logits[np.arange(len(logits)), kept[1:]][:, None]).sum(-1))
        window = continuation_window(context, continuation, SEQ_LEN)
        (score,) = Scorer(model, 1, jit_compile=False).score_windows([window])
        assert score.tokens == len(continuation)
        assert score.nats == pytest.approx(nats[-len(continuation) :].sum(), rel=1e-5)


def test_a_continuation_is_greedy_if_each_of_its_tokens_is_the_likeliest(rng):
    model = randomised(GPT2_CONFIG)
    ids = list(rng.integers(GPT2_CONFIG.vocab_size, size=6))
    for _ in range(3):
        ids.append(int(model(np.array([ids], np.int32)).numpy()[0, -1].argmax()))
    others = [[*ids[:place], (ids[place] + 1) % 64, *ids[place + 1 :]] for place in (6, 8)]
    found = [continuation_window(one[:6], one[6:], SEQ_LEN) for one in (ids, *others)]
    scores = Scorer(model, 4, jit_compile=False).score_windows(found)
    assert [score.is_greedy for score in scores] == [True, False, False]


def test_batch_size_does_not_change_the_result(rng):
    model = randomised(GPT2_CONFIG)
    ids = rng.integers(GPT2_CONFIG.vocab_size, size=70)  # 5 windows: the last batch is full, padded by 1, padded by 3
    (one, n_one), *others = (
        Scorer(model, batch_size, jit_compile=False).score(ids, SEQ_LEN) for batch_size in (1, 2, 8)
    )
    assert n_one == 69
    assert others == [(pytest.approx(one, rel=1e-6), n_one)] * 2


def test_texts_of_any_length_and_stride_that_fill_a_batch_are_scored_by_one_graph(monkeypatch, rng):
    rows = rows_of_graphs(monkeypatch)
    one = Scorer(randomised(GPT2_CONFIG), batch_size=2, jit_compile=False)
    texts = [(rng.integers(GPT2_CONFIG.vocab_size, size=n), stride) for n, stride in ((70, 16), (18, 16), (40, 7))]
    scores = [one.score(ids, stride) for ids, stride in texts]
    assert rows == [2]
    for (ids, stride), score in zip(texts, scores, strict=True):
        assert Scorer(one.model, batch_size=2, jit_compile=False).score(ids, stride) == score


def test_a_scorer_scores_with_the_parameters_at_the_time_of_the_call(rng):
    model, ids = randomised(GPT2_CONFIG), rng.integers(GPT2_CONFIG.vocab_size, size=30)
    one = Scorer(model, batch_size=2, jit_compile=False)
    before = one.score(ids, SEQ_LEN)
    for parameter in model.named_parameters().values():
        parameter.assign(np.zeros(parameter.shape))
    assert one.score(ids, SEQ_LEN) == (pytest.approx(29 * math.log(GPT2_CONFIG.vocab_size), rel=1e-6), 29) != before


def test_nats_are_summed_in_float64(monkeypatch):
    """Added to 2^24, a float32 1 vanishes: a long text's total would stand still."""

    def nats(hidden, table, targets, scored):
        return tf.where(targets == 1, 2.0**24, 1.0), targets == 1

    monkeypatch.setattr(scorer, "scored_head_nats", nats)
    ids = np.array([0, 1] + [0] * 30)
    assert Scorer(GPT(GPT2_CONFIG), batch_size=2, jit_compile=False).score(ids, SEQ_LEN) == (2.0**24 + 30, 31)


def test_the_graphs_of_several_lengths_are_meant_and_warned_of_by_nobody(caplog, rng):
    scorer = Scorer(randomised(GPT2_CONFIG), batch_size=2, jit_compile=False)
    for length in range(4, 14):
        ids = rng.integers(GPT2_CONFIG.vocab_size, size=length + 1)
        list(scorer.score_windows(windows(ids, length, length)))
    assert "retracing" not in caplog.text
