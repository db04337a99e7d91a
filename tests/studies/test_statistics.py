import dataclasses
import math

import numpy as np
import pytest

from algpt2.studies.statistics import Estimate, holm, mean_interval, paired_p, ratio_interval

stats = pytest.importorskip("scipy.stats")

FIRST = [2.081, 2.095, 2.067, 2.09]
SECOND = [1.854, 1.86, 1.849, 1.851]
# Two-sided 5% points of Student's t, from any printed table.
T_2, T_3 = 4.30265, 3.18245


def test_an_interval_is_that_of_the_textbook():
    """Worked by hand: mean 2, standard deviation 1, so the half-width is 4.30265 / sqrt(3)."""
    half = T_2 / math.sqrt(3)
    estimate = mean_interval([1.0, 3.0, 2.0])
    expected = (2.0, pytest.approx(2 - half, 1e-5), pytest.approx(2 + half, 1e-5), 3, 1.0)
    assert dataclasses.astuple(estimate) == expected


def test_an_interval_is_scipys():
    expected = stats.ttest_1samp(FIRST, 0.0).confidence_interval(0.95)
    estimate = mean_interval(FIRST)
    assert (estimate.mean, estimate.n) == (pytest.approx(np.mean(FIRST), 1e-12), 4)
    assert (estimate.low, estimate.high) == (pytest.approx(expected.low, 1e-12), pytest.approx(expected.high, 1e-12))


def test_one_seed_has_no_interval_and_equal_seeds_one_without_width():
    assert mean_interval([1.5]) == Estimate(1.5, None, None, 1)
    assert mean_interval([1.5]).contains_zero is None
    assert mean_interval([1.5, 1.5, 1.5]) == Estimate(1.5, 1.5, 1.5, 3, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "contains"), [(-1.0, 1.0, True), (0.0, 1.0, True), (-1.0, 0.0, True), (0.1, 1.0, False)]
)
def test_whether_an_interval_contains_zero(low, high, contains):
    assert Estimate(0.5, low, high, 3).contains_zero is contains


def test_the_paired_test_is_the_one_of_the_differences():
    """Worked by hand: differences 1, 2, 3 have t = 2 / (1 / sqrt(3)) = 3.4641 at 2 degrees, whose p is closed-form."""
    t = 2 * math.sqrt(3)
    by_hand = 1 - t / math.sqrt(t**2 + 2)
    assert paired_p([11.0, 22.0, 33.0], [10.0, 20.0, 30.0]) == pytest.approx(by_hand, 1e-9)
    differences = np.subtract(FIRST, SECOND)
    assert paired_p(FIRST, SECOND) == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue, 1e-9)
    assert paired_p(FIRST, SECOND) != pytest.approx(stats.ttest_ind(FIRST, SECOND).pvalue, 0.1)


def test_without_a_spread_there_is_no_paired_test():
    assert paired_p([2.0], [1.0]) is None
    assert paired_p(SECOND, SECOND) is None
    assert paired_p([2.0, 3.0], [1.0, 2.0]) is None


def test_an_interval_of_differences_contains_zero_exactly_when_p_is_at_least_5_percent():
    rng = np.random.default_rng(1)
    for _ in range(50):
        first, second = rng.normal(0.7, 1, 4), rng.normal(0, 1, 4)
        estimate = mean_interval(list(first - second))
        assert estimate.contains_zero is (paired_p(list(first), list(second)) >= 0.05)


def test_holm_by_hand():
    """0.01 x 4, 0.02 x 3, then 0.03 x 2 and 0.04 x 1, which may not be below what stands before them."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_counts_only_the_tests_that_exist():
    assert holm([None, 0.02, 0.03, None]) == [None, pytest.approx(0.04), pytest.approx(0.04), None]


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest", reason="statsmodels is no dependency")
    p_values = list(np.random.default_rng(2).uniform(size=9) ** 3)
    assert holm(p_values) == pytest.approx(list(multitest.multipletests(p_values, method="holm")[1]), 1e-12)


def test_the_ends_of_a_ratios_interval_are_where_scipys_t_test_has_5_percent():
    """Fieller's theorem is an inverted t-test, so the test itself tells whether the parabola was solved rightly."""
    top, bottom = np.array([0.02, 0.05, 0.03, 0.06]), np.array([0.22, 0.24, 0.21, 0.25])
    estimate = ratio_interval(list(top), list(bottom))
    assert (estimate.mean, estimate.n) == (pytest.approx(0.04 / 0.23), 4)
    for end in (estimate.low, estimate.high):
        assert stats.ttest_1samp(top - end * bottom, 0.0).pvalue == pytest.approx(0.05, 1e-9)
    assert estimate.low < estimate.mean < estimate.high


def test_a_ratio_with_a_denominator_that_is_known_has_the_interval_of_its_numerator():
    numerators = [1.0, 3.0, 2.0]
    half = T_2 / math.sqrt(3)
    estimate = ratio_interval(numerators, [2.0, 2.0, 2.0])
    expected = (1.0, pytest.approx(1 - half / 2, 1e-5), pytest.approx(1 + half / 2, 1e-5), 3, None)
    assert dataclasses.astuple(estimate) == expected


def test_a_ratios_interval_covers_the_truth_95_times_in_100():
    """Of 2000 simulated studies of 4 seeds 1900 cover it, give or take 10; at 3 standard errors 30."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.03, (2000, 4, 2))
    shared = rng.normal(0, 0.03, (2000, 4, 1))  # the control's noise is in both, as in a study
    values = np.array([0.06, 0.2]) + noise + shared
    estimates = [ratio_interval(list(one[:, 0]), list(one[:, 1])) for one in values]
    covered = sum(one is None or one.low <= 0.3 <= one.high for one in estimates)
    assert abs(covered - 1900) <= 30


def test_a_ratio_has_no_interval_where_that_of_its_denominator_contains_zero():
    rng = np.random.default_rng(4)
    seen = set()
    for _ in range(50):
        denominators = list(rng.normal(0.6, 1, 3))
        has_none = ratio_interval(list(rng.normal(1, 1, 3)), denominators) is None
        assert has_none is mean_interval(denominators).contains_zero
        seen.add(has_none)
    assert seen == {True, False}


def test_a_ratio_of_one_seed_has_no_interval():
    assert ratio_interval([1.0], [4.0]) == Estimate(0.25, None, None, 1)
    assert ratio_interval([1.0], [0.0]) is None


def test_a_missing_scipy_is_named_with_what_to_install(monkeypatch):
    from algpt2.errors import UserError

    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[studies\]'"):
        mean_interval([1.0, 2.0])
