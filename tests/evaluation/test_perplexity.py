"""Scoring a text: every token once, in its right context, whatever the windows and batches."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED_DATA
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.model import GPTConfig
from algpt2.data.tokenizer import Tokenizer
from algpt2.errors import UserError
from algpt2.evaluation import perplexity
from algpt2.evaluation.perplexity import PROTOCOLS, evaluate_text, prepare_text, score_ids, windows
from algpt2.model.gpt import GPT

HF, RAW = PROTOCOLS["hf"], PROTOCOLS["raw"]
SEQ_LEN = GPT2_CONFIG.seq_len


def randomised(config: GPTConfig) -> GPT:
    """A model whose predictions depend strongly on their context."""
    model, rng = GPT(config), np.random.default_rng(7)
    for parameter in model.named_parameters().values():
        parameter.assign(rng.normal(scale=0.3, size=parameter.shape))
    return model


def constant(config: GPTConfig) -> GPT:
    """A model that finds every token equally likely."""
    model = GPT(config)
    for parameter in model.trainable_variables:
        parameter.assign(np.zeros(parameter.shape))
    return model


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat and the cat ate the rat"] * 3, 270)


@pytest.fixture(scope="module")
def text_model(tokenizer):
    return randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size))


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
    total_nats, n_scored = score_ids(model, ids, stride, batch_size=3)
    assert n_scored == 37
    assert total_nats == pytest.approx(expected, rel=1e-6)


def test_batch_size_does_not_change_the_result(rng):
    model = randomised(GPT2_CONFIG)
    ids = rng.integers(GPT2_CONFIG.vocab_size, size=70)  # 5 windows: the last batch is full, padded by 1, padded by 3
    (one, n_one), *others = (score_ids(model, ids, SEQ_LEN, batch_size) for batch_size in (1, 2, 8))
    assert n_one == 69
    assert others == [(pytest.approx(one, rel=1e-6), n_one)] * 2


def test_a_model_that_knows_nothing_has_perplexity_vocab_size(tokenizer):
    config = dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size)
    text = "the cat ate a gnu, çà et là " * 3
    scores = evaluate_text(constant(config), tokenizer, text, RAW, stride=16, batch_size=2)
    n_tokens, n_bytes, n_words = len(tokenizer.encode(text)), len(text.encode("utf-8")), 8 * 3
    assert (scores["scored_tokens"], scores["scored_bytes"], scores["words"]) == (n_tokens, n_bytes, n_words)
    assert scores["token_perplexity"] == pytest.approx(tokenizer.vocab_size, rel=1e-6)
    assert scores["bits_per_byte"] == pytest.approx(n_tokens * math.log2(tokenizer.vocab_size) / n_bytes, rel=1e-6)
    assert scores["word_perplexity"] == pytest.approx(tokenizer.vocab_size ** (n_tokens / n_words), rel=1e-5)
    assert (scores["protocol"], scores["window"], scores["stride"]) == ("raw", 16, 16)


def test_a_text_shorter_than_one_window_is_scored_without_its_padding(tokenizer, text_model):
    ids = tokenizer.encode("the cat")
    assert 2 <= len(ids) < SEQ_LEN - 1
    scores = evaluate_text(text_model, tokenizer, "the cat", RAW, stride=16, batch_size=4)
    logits = text_model(np.array([[tokenizer.eos_id, *ids[:-1]]], np.int32)).numpy()[0].astype(np.float64)
    expected = sum(np.log(np.exp(row - row[target]).sum()) for row, target in zip(logits, ids, strict=True))
    assert scores["scored_tokens"] == len(ids)
    assert scores["total_nats"] == pytest.approx(expected, rel=1e-6)


def test_hf_scores_neither_the_first_token_nor_its_bytes(tokenizer, text_model):
    text = "the cat sat"
    ids = tokenizer.encode(text)
    scores = evaluate_text(text_model, tokenizer, text, HF, stride=16, batch_size=1)
    assert scores["scored_tokens"] == len(ids) - 1
    assert scores["scored_bytes"] == len(text) - len(tokenizer.decode(ids[:1]))


def test_the_end_of_text_mark_in_a_text_is_scored_as_the_text_it_is(tokenizer, text_model):
    text = "the <|endoftext|> cat"
    assert evaluate_text(text_model, tokenizer, text, RAW, 16, 1)["scored_bytes"] == len(text)


@pytest.mark.parametrize(
    ("text", "protocol"), [("", HF), ("", RAW), ("a", HF), (" \n\n", HF), (" \n\n", RAW), ("\n", RAW)]
)
def test_a_text_with_nothing_to_score_is_refused(tokenizer, text_model, text, protocol):
    with pytest.raises(UserError, match=f"at least one word and one token to score, .* {protocol.name} "):
        evaluate_text(text_model, tokenizer, text, protocol, 16, 1)


def test_one_token_after_eos_can_be_scored(tokenizer, text_model):
    assert evaluate_text(text_model, tokenizer, "a", RAW, 16, 1)["scored_tokens"] == 1


def test_hf_joins_lines_as_the_dataset_holds_them():
    """A line keeps its end, a blank one has nothing, and two line ends stand between any two."""
    assert prepare_text(" \n = A = \n \n b c \nd", HF) == "\n\n = A = \n\n\n\n\n b c \n\n\nd"
    assert prepare_text(" \n = A = \r\n", RAW) == " \n = A = \r\n"


def test_only_a_line_feed_ends_a_line():
    assert prepare_text("a\x0cb\u2028c\rd\n", HF) == "a\x0cb\u2028c\rd\n"


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs ../shared/data: WikiText and OpenAI's tokenizer")
def test_wikitext_under_hf_has_the_published_number_of_tokens():
    raw = (SHARED_DATA / "wikitext-2-raw" / "wiki.test.raw").read_bytes()
    text = raw.decode("utf-8")
    assert (len(raw), len(text.split())) == (1_290_590, 241_211)
    joined = prepare_text(text, HF)
    assert len(Tokenizer.load(str(SHARED_DATA / "gpt2-bpe")).encode(joined)) == 287_644
    assert joined.split() == text.split()
    assert prepare_text(text, RAW) == text


def test_nats_are_summed_in_float64(monkeypatch):
    """Added to 2^24, a float32 1 vanishes: a long text's total would stand still."""
    monkeypatch.setattr(perplexity, "head_nats", lambda hidden, table, targets: tf.where(targets == 1, 2.0**24, 1.0))
    ids = np.array([0, 1] + [0] * 30)
    assert score_ids(GPT(GPT2_CONFIG), ids, SEQ_LEN, batch_size=2) == (2.0**24 + 30, 31)
