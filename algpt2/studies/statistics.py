"""Means and differences over seeds with their intervals: SciPy's t-distribution and tests (the extra `studies`)."""

import dataclasses
from collections.abc import Sequence
from types import ModuleType

from algpt2.errors import UserError

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure over n seeds.

    Attributes:
      mean: over the seeds, or a ratio of such means.
      low: end of its 95% interval, None where one seed gives none.
      high: the other end.
      n: seeds.
      standard_deviation: of one seed's value; None for one seed, and for a ratio.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    standard_deviation: float | None = None

    @property
    def contains_zero(self) -> bool | None:
        """Whether zero lies within the interval, its ends included; None without an interval."""
        return None if self.low is None else self.low <= 0 <= self.high


def mean_interval(values: Sequence[float]) -> Estimate:
    """Returns a mean with Student's interval: mean ± t(n - 1) x standard deviation / sqrt(n).

    Example:

    >>> from algpt2.studies.statistics import mean_interval
    >>> estimate = mean_interval([1.0, 2.0, 3.0])
    >>> f"{estimate.mean:.2f} from {estimate.low:.2f} to {estimate.high:.2f}, n = {estimate.n}"
    '2.00 from -0.48 to 4.48, n = 3'

    Args:
      values: one for each seed, at least one.
    """
    import numpy as np

    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(mean, None, None, n)
    half = _t_quantile(n) * float(_scipy_stats().sem(values))
    return Estimate(mean, mean - half, mean + half, n, float(np.std(values, ddof=1)))


def paired_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Returns the two-sided p of the paired t-test that two arms have the same mean.

    Args:
      first: a value for each seed.
      second: those of the same seeds, in the same order.

    Returns:
      None where the test does not exist: with one seed, or if every seed has the same difference.
    """
    differences = [one - other for one, other in zip(first, second, strict=True)]
    if len(set(differences)) == 1:
        return None
    return float(_scipy_stats().ttest_rel(first, second).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Returns p-values adjusted by Holm's method, in their order; those that are None are not counted.

    The k-th smallest of m is multiplied by m - k + 1, is at least what the one before it became, and at most 1 (Holm
    1979, "A simple sequentially rejective multiple test procedure"). The chance that any true null hypothesis among all
    has an adjusted p below 0.05 is then at most 0.05.
    """
    places = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(places):
        largest = max(largest, min(1.0, p * (len(places) - rank)))
        adjusted[place] = largest
    return adjusted


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate | None:
    """Returns mean(numerators) / mean(denominators) with Fieller's interval, which knows that both are noisy.

    The interval holds each ratio r for which a t-test does not tell the mean of numerator - r x denominator from zero
    (Fieller 1954, "Some problems in interval estimation", J. R. Stat. Soc. B 16; Franz, arXiv:0710.2024): its ends are
    the roots of a parabola in r.

    Example:

    >>> from algpt2.studies.statistics import ratio_interval
    >>> estimate = ratio_interval([0.09, 0.105, 0.095], [0.22, 0.23, 0.24])
    >>> f"{estimate.mean:.2f} from {estimate.low:.2f} to {estimate.high:.2f}"
    '0.42 from 0.34 to 0.50'

    Args:
      numerators: one for each seed.
      denominators: those of the same seeds, in the same order.

    Returns:
      None where the interval has no two ends, exactly when the denominators' own 95% interval contains zero; without
      ends for a single seed, unless its denominator is zero.
    """
    import numpy as np

    top, bottom, n = float(np.mean(numerators)), float(np.mean(denominators)), len(numerators)
    if n == 1:
        return Estimate(top / bottom, None, None, n) if bottom else None
    covariances = np.cov(numerators, denominators) * _t_quantile(n) ** 2 / n
    square = bottom**2 - covariances[1, 1]
    half_linear = top * bottom - covariances[0, 1]
    constant = top**2 - covariances[0, 0]
    if square <= 0:
        return None
    spread = float(np.sqrt(max(0.0, half_linear**2 - square * constant)))
    low, high = (half_linear - spread) / square, (half_linear + spread) / square
    return Estimate(top / bottom, float(low), float(high), n)


def _t_quantile(n: int) -> float:
    """Returns how many standard errors the 95% interval of a mean of n values reaches to either side."""
    return float(_scipy_stats().t.ppf((1 + CONFIDENCE) / 2, n - 1))


def _scipy_stats() -> ModuleType:
    try:
        from scipy import stats
    except ImportError as error:
        raise UserError("a study's statistics need scipy: run `pip install -e '.[studies]'`.") from error
    return stats
