"""The formulas of facts and papers, against numbers worked out by hand."""

import math

import pytest

from algpt2.evaluation.scores import bits_per_byte, perplexity


def test_a_uniform_guess_among_v_has_perplexity_v():
    assert perplexity(7 * math.log(50257), 7) == pytest.approx(50257, rel=1e-12)


def test_a_certain_model_has_perplexity_1_and_0_bits():
    assert perplexity(0.0, 3) == 1
    assert bits_per_byte(0.0, 3) == 0


def test_a_uniform_guess_of_bytes_takes_8_bits_per_byte():
    assert bits_per_byte(5 * math.log(256), 5) == pytest.approx(8, rel=1e-12)
    assert bits_per_byte(5 * math.log(256), 10) == pytest.approx(4, rel=1e-12)


def test_gpt2s_published_word_perplexity_and_bits_per_byte_belong_together():
    """lm-eval's 37.37 per word on WikiText is 0.977 bits a byte; its words are a hundred more than these 241,211."""
    total_nats = 241_211 * math.log(37.37)
    assert bits_per_byte(total_nats, 1_290_590) == pytest.approx(0.977, abs=1e-3)


def test_a_diverged_models_perplexity_is_infinite_rather_than_an_error():
    assert perplexity(1e6, 1) == math.inf
    assert perplexity(math.inf, 1) == math.inf
    assert math.isnan(perplexity(math.nan, 1))
