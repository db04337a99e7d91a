"""The Penn Treebank: what its words are divided by, a detokenizer that loses nothing, and scores beside NumPy's."""

import dataclasses
import math
import re

import numpy as np
import numpy_gpt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import GPT2_CONFIG, randomised

from algpt2.errors import UserError
from algpt2.evaluation.penn_treebank import detokenize, evaluate_penn_treebank
from algpt2.evaluation.scorer import Scorer
from algpt2.text.tokenizer import Tokenizer

SEQ_LEN = GPT2_CONFIG.seq_len
TEXT = " no it was n't black monday \n the u.s. 's <unk> fell $ N billion and us$ N \n the investors ' # N \n"
WRITTEN = "no it wasn't black monday\nthe u.s.'s <unk> fell $N billion and us$N\nthe investors' #N\n"
ENDS = "'s|n't|'re|'ve|'m|'ll|'d|'"


def tokenized(written):
    """The inverse of `detokenize`, written from what its docstring says."""
    lines = []
    for line in written.split("\n"):
        words = [re.fullmatch(rf"(\S*\$|#)?(\S+?)({ENDS})?", word).groups() for word in line.split()]
        parts = [part for word in words for part in word if part]
        lines.append(f" {' '.join(parts)} " if parts else "")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train([TEXT, WRITTEN] * 3, 290)


@pytest.fixture(scope="module")
def scorer(tokenizer):
    model = randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size))
    return Scorer(model, batch_size=2, jit_compile=False)


def test_words_are_written_as_they_would_be_and_nothing_is_lost():
    assert detokenize(TEXT) == WRITTEN
    assert tokenized(WRITTEN) == TEXT


WORD = st.sampled_from(["alpha", "u.s.", "N", "<unk>", "s&p", "mr."])
NUMBER = st.tuples(st.sampled_from(["$", "c$", "#"]), st.just("N")).map(" ".join)
ENDED = st.tuples(WORD, st.sampled_from(ENDS.split("|"))).map(" ".join)


@given(st.lists(st.lists(WORD | NUMBER | ENDED, min_size=1), min_size=1))
def test_any_sentences_can_be_told_from_what_is_made_of_them(sentences):
    text = "".join(f" {' '.join(sentence)} \n" for sentence in sentences)
    written = detokenize(text)
    assert tokenized(written) == text
    assert "  " not in written
    assert " \n" not in written


@pytest.mark.parametrize(("variant", "scored"), [("raw", TEXT), ("detokenized", WRITTEN)])
def test_the_nats_of_all_tokens_are_divided_by_the_words_of_the_file(scorer, tokenizer, variant, scored):
    result = evaluate_penn_treebank(scorer, tokenizer, TEXT, variant, stride=SEQ_LEN)
    ids = np.array([tokenizer.eos_id, *tokenizer.encode(scored)])
    parameters = {name: parameter.numpy() for name, parameter in scorer.model.named_parameters().items()}
    nats = 0.0
    for start in range(0, len(ids) - 1, SEQ_LEN):
        window = ids[start : start + SEQ_LEN + 1]
        logits = numpy_gpt.forward(parameters, window[None, :-1], GPT2_CONFIG.n_layer, GPT2_CONFIG.n_head)[0]
        nats += sum(np.log(np.exp(row - row[target]).sum()) for row, target in zip(logits, window[1:], strict=True))
    assert (result["words"], result["line_ends"], result["scored_tokens"]) == (22, 3, len(ids) - 1)
    assert result["total_nats"] == pytest.approx(nats, rel=1e-5)
    assert result["word_perplexity"] == pytest.approx(math.exp(nats / 25), rel=1e-4)
    assert result["word_perplexity_without_line_ends"] == pytest.approx(math.exp(nats / 22), rel=1e-4)
    assert result["bits_per_byte"] == pytest.approx(nats / math.log(2) / len(TEXT), rel=1e-5)
    assert (result["bytes"], result["scored_bytes"]) == (len(TEXT), len(scored))
    assert (result["variant"], result["window"], result["stride"]) == (variant, SEQ_LEN, SEQ_LEN)


def test_the_result_says_that_this_is_not_the_official_file_and_what_was_published(scorer, tokenizer):
    result = evaluate_penn_treebank(scorer, tokenizer, TEXT, "raw", stride=SEQ_LEN)
    assert result["is_official_test_file"] is False
    assert [one["value"] for one in result["published"]] == [65.85]


def test_a_file_without_a_word_is_refused(scorer, tokenizer):
    with pytest.raises(UserError, match="at least one word"):
        evaluate_penn_treebank(scorer, tokenizer, " \n \n", "raw", stride=SEQ_LEN)
