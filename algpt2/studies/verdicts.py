"""What intervals say, in words; whether a decision rule is met is for people to say."""

from collections.abc import Sequence

from algpt2.studies.analysis import has_gap
from algpt2.studies.figures import Difference, GapClosed
from algpt2.studies.statistics import CONFIDENCE

LEVEL = 1 - CONFIDENCE


def difference_verdict(one: Difference) -> str:
    """Returns what the interval of a difference says, and whether Holm's correction agrees."""
    estimate = one.bits_per_byte
    if estimate is None:
        return "no seed has finished in both"
    if estimate.low is None:
        return "one seed: no interval, so it may be chance"
    if estimate.contains_zero:
        return "the interval contains zero: the seeds do not tell the two apart"
    worse, better = (one.first, one.second) if estimate.mean > 0 else (one.second, one.first)
    verdict = f"the interval does not contain zero: {worse} is worse than {better}"
    if one.p_holm is not None and one.p_holm >= LEVEL:
        return f"{verdict}; but after Holm's correction p is not below {LEVEL:.2g}"
    return verdict


def gap_verdict(one: GapClosed) -> str:
    """Returns whether there is a gap, and what the interval of its closing says."""
    if one.gap is None:
        return "no seed has finished in all four"
    if not has_gap(one.gap):
        return f"no gap to close: {_why_no_gap(one)}"
    if one.closed is None or one.closed.low is None:
        return "one seed: no interval, so it may be chance"
    if one.closed.contains_zero:
        return "the interval contains zero: the change may close nothing"
    if one.closed.high < 0:
        return "the interval lies below zero: the change widens the gap"
    if one.closed.low > 1:
        return "the interval lies above one: the change turns the gap round"
    if one.closed.high >= 1:
        return "the interval contains one and not zero: the change closes some of the gap, perhaps all of it"
    return "the interval does not contain zero: the change closes a part of the gap"


def missing_seeds_note(name: str, seeds: Sequence[int], missing: Sequence[int]) -> str | None:
    """Returns which planned seeds a figure lacks, None if it has all."""
    if not missing:
        return None
    return f"{name}: n = {len(seeds)}; not finished: seed {', '.join(map(str, missing))}."


def _why_no_gap(one: GapClosed) -> str:
    if one.gap.low is None or one.gap.high < 0:
        return f"{one.arm} is not worse than {one.control}"
    return f"the interval of {one.arm} - {one.control} contains zero"
