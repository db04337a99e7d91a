"""Drawing a token: the distribution that temperature, top-k and top-p define, and draws that agree with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from algpt2.config.sampling import SamplingConfig
from algpt2.errors import UserError
from algpt2.evaluation.sampling import next_token_probabilities, sample

PROBABILITIES = np.array([0.15, 0.4, 0.05, 0.1, 0.3])  # in order of rank: 1, 4, 0, 3, 2
LOGITS = np.log(PROBABILITIES).astype(np.float32) + 7


def kept(**options):
    """The probabilities that are left of PROBABILITIES."""
    return next_token_probabilities(LOGITS, SamplingConfig(**options))


def test_without_options_it_is_softmax():
    assert kept() == pytest.approx(PROBABILITIES, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_the_logits(temperature):
    powered = PROBABILITIES ** (1 / temperature)
    assert kept(temperature=temperature) == pytest.approx(powered / powered.sum(), abs=1e-6)


def test_temperature_0_takes_the_likeliest_and_of_equals_the_first():
    rng = np.random.default_rng(0)
    config = SamplingConfig(temperature=0)
    assert sample(LOGITS, config, rng) == 1
    assert sample(np.array([1, 3, 2, 3], np.float32), config, rng) == 1


@pytest.mark.parametrize(("top_k", "ids"), [(1, [1]), (2, [1, 4]), (3, [0, 1, 4]), (5, range(5)), (9, range(5))])
def test_top_k_keeps_the_k_likeliest_in_proportion(top_k, ids):
    expected = np.where(np.isin(np.arange(5), list(ids)), PROBABILITIES, 0)
    assert kept(top_k=top_k) == pytest.approx(expected / expected.sum(), abs=1e-6)


@settings(deadline=None)
@given(
    logits=hypothesis_numpy.arrays(np.float32, st.integers(1, 30), elements=st.sampled_from([-2.0, 0.0, 1.0])),
    top_k=st.integers(1, 30),
)
def test_top_k_keeps_exactly_k_and_of_equals_the_first(logits, top_k):
    left = np.flatnonzero(next_token_probabilities(logits, SamplingConfig(top_k=top_k)))
    ranked = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    assert left.tolist() == sorted(ranked[:top_k])


@pytest.mark.parametrize(
    ("top_p", "ids"),
    [
        (1e-9, [1]),
        (0.39, [1]),
        (0.41, [1, 4]),
        (0.69, [1, 4]),
        (0.71, [0, 1, 4]),
        (0.94, [0, 1, 3, 4]),
        (1.0, range(5)),
    ],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, ids):
    expected = np.where(np.isin(np.arange(5), list(ids)), PROBABILITIES, 0)
    assert kept(top_p=top_p) == pytest.approx(expected / expected.sum(), abs=1e-6)


@settings(deadline=None)
@given(
    weights=hypothesis_numpy.arrays(np.float64, st.integers(1, 20), elements=st.floats(-8, 8)),
    top_p=st.floats(0.01, 0.99),
)
def test_a_top_p_set_reaches_p_and_is_smaller_than_any_other_that_does(weights, top_p):
    exp = np.exp(weights.astype(np.float32).astype(np.float64))
    softmax = exp / exp.sum()
    left = next_token_probabilities(weights.astype(np.float32), SamplingConfig(top_p=top_p)) > 0
    assert softmax[left].sum() >= top_p - 1e-9
    assert softmax[left].sum() - softmax[left].min() < top_p + 1e-9, "its least likely token could go"
    assert not (~left).any() or softmax[~left].max() <= softmax[left].min() + 1e-12


def test_top_p_counts_what_top_k_left():
    """Of 0.4 and 0.3, renormalised to 0.57 and 0.43, the first alone reaches 0.5."""
    assert np.flatnonzero(kept(top_k=2, top_p=0.5)).tolist() == [1]


def test_top_k_and_top_p_rank_after_the_temperature():
    """At temperature 4 the five are nearly equal, and 0.5 takes three of them."""
    assert np.flatnonzero(kept(temperature=4.0, top_p=0.5)).tolist() == [0, 1, 4]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}])
def test_draws_follow_the_distribution(options):
    """Pearson's chi-square of 10,000 draws stays below its 99.9% quantile (18.5 for 4 degrees of freedom)."""
    config, rng, n_draws = SamplingConfig(**options), np.random.default_rng(1), 10_000
    counts = np.bincount([sample(LOGITS, config, rng) for _ in range(n_draws)], minlength=5)
    expected = n_draws * kept(**options)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert ((counts - expected)[possible] ** 2 / expected[possible]).sum() < 18.5


def test_the_same_seed_draws_the_same_tokens_and_another_draws_others():
    def draws(seed):
        rng = np.random.default_rng(seed)
        return [sample(LOGITS, SamplingConfig(), rng) for _ in range(30)]

    assert draws(5) == draws(5)
    assert draws(5) != draws(6)


@pytest.mark.parametrize("logits", [np.float32([1e30, -1e30, 0]), np.float32([88, 89, -np.inf])])
def test_extreme_logits_still_make_a_distribution(logits):
    probabilities = next_token_probabilities(logits, SamplingConfig())
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_new_tokens", [0, -1]),
        ("temperature", [-0.1, float("nan")]),
        ("top_k", [-1]),
        ("top_p", [0.0, -0.5, 1.1, float("nan")]),
        ("seed", [-1]),
    ],
)
def test_a_value_outside_its_rule_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(UserError, match=rf"{name} must be .*, received {value}"):
            SamplingConfig(**{name: value})


def test_top_p_stops_at_the_token_with_which_its_probability_is_reached_exactly():
    """Four equal logits have probabilities of exactly a quarter, so two of them are half of the distribution."""
    probabilities = next_token_probabilities(np.zeros(4, "float32"), SamplingConfig(top_p=0.5))
    np.testing.assert_array_equal(probabilities, [0.5, 0.5, 0, 0])
