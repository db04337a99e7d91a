"""Drawing a token: the distribution that the filters define, beside Hugging Face's, and draws that agree with it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from algpt2.config.sampling import GenerationConfig, SamplingConfig
from algpt2.errors import UserError
from algpt2.evaluation.sampling import Draws, filtered, next_tokens, penalised

PROBABILITIES = np.array([0.15, 0.4, 0.05, 0.1, 0.3])  # in order of rank: 1, 4, 0, 3, 2
LOGITS = np.log(PROBABILITIES).astype(np.float32) + 7
FILTERS = [{"top_k": 7}, {"top_p": 0.8}, {"min_p": 0.05}, {"typical_p": 0.6}, {"temperature": 0.6}]
ALL_FILTERS = {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8}


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def probabilities_of(logits, **options):
    """What the filters leave of one row of logits."""
    return softmax(np.array(filtered(np.asarray(logits, np.float32)[None], SamplingConfig(**options)))[0])


def kept(**options):
    """The probabilities that are left of PROBABILITIES."""
    return probabilities_of(LOGITS, **options)


def draws(n, seed=0, logits=LOGITS, number=3, seen=None, **options):
    """The next tokens of n samples of one prompt."""
    rows = np.tile(np.asarray(logits, np.float32), (n, 1))
    which = Draws(np.int32(seed), np.arange(n, dtype=np.int32), np.full(n, number, np.int32))
    return np.array(next_tokens(rows, seen, which, SamplingConfig(**options)))


def test_without_options_it_is_softmax():
    assert kept() == pytest.approx(PROBABILITIES, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperature_divides_the_logits(temperature):
    powered = PROBABILITIES ** (1 / temperature)
    assert kept(temperature=temperature) == pytest.approx(powered / powered.sum(), abs=1e-6)


def test_temperature_0_takes_the_likeliest_and_of_equals_the_first():
    assert draws(1, temperature=0) == [1]
    assert draws(1, logits=[1, 3, 2, 3], temperature=0) == [1]


@pytest.mark.parametrize(("top_k", "ids"), [(1, [1]), (2, [1, 4]), (3, [0, 1, 4]), (5, range(5)), (9, range(5))])
def test_top_k_keeps_the_k_likeliest_in_proportion(top_k, ids):
    expected = np.where(np.isin(np.arange(5), list(ids)), PROBABILITIES, 0)
    assert kept(top_k=top_k) == pytest.approx(expected / expected.sum(), abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    logits=hypothesis_numpy.arrays(np.float32, 12, elements=st.sampled_from([-2.0, 0.0, 1.0])), top_k=st.integers(1, 12)
)
def test_top_k_keeps_all_that_are_as_likely_as_the_kth(logits, top_k):
    left = np.flatnonzero(probabilities_of(logits, top_k=top_k))
    assert left.tolist() == np.flatnonzero(logits >= np.sort(logits)[-top_k]).tolist()


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


@settings(deadline=None, max_examples=30)
@given(
    logits=hypothesis_numpy.arrays(np.float32, 16, elements=st.floats(-8, 8, width=32), unique=True),
    top_p=st.floats(0.01, 0.99),
)
def test_a_top_p_set_reaches_p_and_is_smaller_than_any_other_that_does(logits, top_p):
    probabilities = softmax(logits.astype(np.float64))
    left = probabilities_of(logits, top_p=top_p) > 0
    assert probabilities[left].sum() >= top_p - 1e-5
    assert probabilities[left].sum() - probabilities[left].min() < top_p + 1e-5, "its least likely token could go"
    assert not (~left).any() or probabilities[~left].max() <= probabilities[left].min()


def test_top_p_stops_at_the_token_with_which_its_probability_is_reached_exactly():
    """The probabilities are exactly 1/2, 1/4 and twice 1/8."""
    halved = probabilities_of(np.log2([8, 4, 2, 2]) * np.log(2), top_p=0.75)
    assert np.flatnonzero(halved).tolist() == [0, 1]


def test_equally_likely_tokens_stay_together():
    assert np.flatnonzero(probabilities_of(np.zeros(4), top_p=0.5)).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(probabilities_of([0, 1, 1, -1], top_k=1)).tolist() == [1, 2]


def test_min_p_is_a_fraction_of_the_likeliest():
    """0.3 of 0.4 is 0.12."""
    assert np.flatnonzero(kept(min_p=0.3)).tolist() == [0, 1, 4]


def test_top_p_counts_what_top_k_left():
    """Of 0.4 and 0.3, renormalised to 0.57 and 0.43, the first alone reaches 0.5."""
    assert np.flatnonzero(kept(top_k=2, top_p=0.5)).tolist() == [1]


def test_filters_rank_after_the_temperature():
    """At temperature 4 the five are nearly equal, and 0.5 takes three of them."""
    assert np.flatnonzero(kept(temperature=4.0, top_p=0.5)).tolist() == [0, 1, 4]


@pytest.mark.parametrize("options", [*FILTERS, ALL_FILTERS, {"temperature": 0.7, "typical_p": 0.3}])
@pytest.mark.filterwarnings("ignore")
def test_the_filters_leave_what_those_of_hugging_face_leave(options, rng):
    """Theirs run in the order in which its `generate` has them, each on PyTorch."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    logits = rng.normal(scale=3, size=(20, 300)).astype(np.float32)
    logits[:, 290:] = -np.inf
    warpers = {
        "temperature": transformers.TemperatureLogitsWarper,
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
        "min_p": transformers.MinPLogitsWarper,
        "typical_p": transformers.TypicalLogitsWarper,
    }
    expected = torch.from_numpy(logits)
    for name in warpers:
        if name in options:
            expected = warpers[name](options[name])(None, expected)
    expected = expected.numpy()
    found = np.array(filtered(logits, SamplingConfig(**options)))
    assert 0 < np.isfinite(expected).sum() < logits.size
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("penalty", [1.3, 0.7])
def test_the_repetition_penalty_is_that_of_hugging_face(penalty, rng):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    logits = rng.normal(size=(4, 50)).astype(np.float32)
    ids = rng.integers(50, size=(4, 9))
    processor = transformers.RepetitionPenaltyLogitsProcessor(penalty)
    expected = processor(torch.from_numpy(ids), torch.from_numpy(logits)).numpy()
    seen = np.zeros((4, 50), bool)
    np.put_along_axis(seen, ids, True, axis=1)
    np.testing.assert_allclose(np.array(penalised(logits, seen, penalty)), expected, rtol=1e-6)


def test_the_repetition_penalty_comes_before_the_choice_of_the_likeliest():
    seen = np.array([[False, True, False, False, False]])
    assert draws(1, seen=seen, temperature=0, repetition_penalty=2.0) == [4]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}, {"typical_p": 0.6}])
def test_draws_follow_the_distribution(options):
    """Pearson's chi-square of 10,000 draws stays below its 99.9% quantile (18.5 for 4 degrees of freedom)."""
    n_draws = 10_000
    counts = np.bincount(draws(n_draws, seed=1, **options), minlength=5)
    expected = n_draws * kept(**options)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert ((counts - expected)[possible] ** 2 / expected[possible]).sum() < 18.5


def test_draws_of_several_tokens_of_one_text_follow_the_distribution_and_are_independent():
    """As above, over 1,000 texts of 10 tokens, and over pairs of neighbours (99.9% of 24 degrees of freedom: 51.2)."""
    tokens = np.stack([draws(1_000, seed=5, number=number) for number in range(10)])
    counts = np.bincount(tokens.ravel(), minlength=5)
    assert ((counts - 10_000 * PROBABILITIES) ** 2 / (10_000 * PROBABILITIES)).sum() < 18.5
    pairs = np.bincount((5 * tokens[::2] + tokens[1::2]).ravel(), minlength=25)
    expected = 5_000 * np.outer(PROBABILITIES, PROBABILITIES).ravel()
    assert ((pairs - expected) ** 2 / expected).sum() < 51.2


def test_a_draw_is_a_function_of_seed_sample_and_number_alone():
    assert draws(50, seed=5).tolist() == draws(50, seed=5).tolist()
    assert draws(50, seed=5)[:20].tolist() == draws(20, seed=5).tolist()
    assert draws(50, seed=5).tolist() != draws(50, seed=6).tolist()
    assert draws(50, number=3).tolist() != draws(50, number=4).tolist()


@pytest.mark.parametrize("logits", [[1e30, -1e30, 0], [88, 89, -np.inf]])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"typical_p": 0.9}, {"min_p": 0.1, "top_k": 2}])
def test_extreme_logits_still_make_a_distribution(logits, options):
    probabilities = probabilities_of(logits, **options)
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_new_tokens", [0, -1]),
        ("temperature", [-0.1, float("nan")]),
        ("top_k", [-1]),
        ("top_p", [0.0, -0.5, 1.1, float("nan")]),
        ("min_p", [-0.1, 1.1]),
        ("typical_p", [0.0, 1.1]),
        ("repetition_penalty", [0.0, -1.0, 101.0]),
        ("seed", [-1, 2**31]),
    ],
)
def test_a_value_outside_its_rule_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(UserError, match=rf"{name} must be .*, received {value}"):
            SamplingConfig(**{name: value})


@pytest.mark.parametrize("name", ["samples", "batch_size"])
def test_a_number_of_texts_outside_its_rule_is_refused_by_name(name):
    with pytest.raises(UserError, match=rf"{name} must be at least 1.*, received 0"):
        GenerationConfig(**{name: 0})
