"""What is scored of a text under each protocol, and what the scores are divided by."""

import dataclasses
import math

import numpy as np
import pytest
from places import SHARED_DATA
from tiny_models import GPT2_CONFIG, randomised

from algpt2.config.model import GPTConfig
from algpt2.data.tokenizer import Tokenizer
from algpt2.errors import UserError
from algpt2.evaluation.perplexity import PROTOCOLS, evaluate_text, prepare_text
from algpt2.evaluation.scorer import Scorer
from algpt2.model.gpt import GPT

HF, RAW = PROTOCOLS["hf"], PROTOCOLS["raw"]
SEQ_LEN = GPT2_CONFIG.seq_len


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


@pytest.fixture(scope="module")
def scorer(text_model):
    return Scorer(text_model, batch_size=1)


def test_a_model_that_knows_nothing_has_perplexity_vocab_size(tokenizer):
    config = dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size)
    text = "the cat ate a gnu, çà et là " * 3
    scores = evaluate_text(Scorer(constant(config), 2), tokenizer, text, RAW, stride=16)
    n_tokens, n_bytes, n_words = len(tokenizer.encode(text)), len(text.encode("utf-8")), 8 * 3
    assert (scores["scored_tokens"], scores["scored_bytes"], scores["words"]) == (n_tokens, n_bytes, n_words)
    assert scores["token_perplexity"] == pytest.approx(tokenizer.vocab_size, rel=1e-6)
    assert scores["bits_per_byte"] == pytest.approx(n_tokens * math.log2(tokenizer.vocab_size) / n_bytes, rel=1e-6)
    assert scores["word_perplexity"] == pytest.approx(tokenizer.vocab_size ** (n_tokens / n_words), rel=1e-5)
    assert (scores["protocol"], scores["window"], scores["stride"]) == ("raw", 16, 16)


def test_a_text_shorter_than_one_window_is_scored_without_its_padding(tokenizer, text_model):
    ids = tokenizer.encode("the cat")
    assert 2 <= len(ids) < SEQ_LEN - 1
    scores = evaluate_text(Scorer(text_model, 4), tokenizer, "the cat", RAW, stride=16)
    logits = text_model(np.array([[tokenizer.eos_id, *ids[:-1]]], np.int32)).numpy()[0].astype(np.float64)
    expected = sum(np.log(np.exp(row - row[target]).sum()) for row, target in zip(logits, ids, strict=True))
    assert scores["scored_tokens"] == len(ids)
    assert scores["total_nats"] == pytest.approx(expected, rel=1e-6)


def test_hf_scores_neither_the_first_token_nor_its_bytes(tokenizer, scorer):
    text = "the cat sat"
    ids = tokenizer.encode(text)
    scores = evaluate_text(scorer, tokenizer, text, HF, stride=16)
    assert scores["scored_tokens"] == len(ids) - 1
    assert scores["scored_bytes"] == len(text) - len(tokenizer.decode(ids[:1]))


def test_the_end_of_text_mark_in_a_text_is_scored_as_the_text_it_is(tokenizer, scorer):
    text = "the <|endoftext|> cat"
    assert evaluate_text(scorer, tokenizer, text, RAW, 16)["scored_bytes"] == len(text)


@pytest.mark.parametrize(
    ("text", "protocol"), [("", HF), ("", RAW), ("a", HF), (" \n\n", HF), (" \n\n", RAW), ("\n", RAW)]
)
def test_a_text_with_nothing_to_score_is_refused(tokenizer, scorer, text, protocol):
    with pytest.raises(UserError, match=f"at least one word and one token to score, .* {protocol.name} "):
        evaluate_text(scorer, tokenizer, text, protocol, 16)


def test_one_token_after_eos_can_be_scored(tokenizer, scorer):
    assert evaluate_text(scorer, tokenizer, "a", RAW, 16)["scored_tokens"] == 1


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
