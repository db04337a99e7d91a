"""Which cells a study has: those by which each arm's rate is chosen, then those that confirm, at the chosen rates.

All of it follows from the spec and the scores there are, so nothing has to be remembered between two commands.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping

from algpt2.studies.cells import CONFIRMATION, SELECTION, Cell
from algpt2.studies.spec import Arm, Spec

Scores = Mapping[Cell, float | None]
"""Validation bits per byte of each cell that has ended; None of one that failed, which is worse than all others."""
SIGNIFICANT_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class RateChoice:
    """How an arm's rate is chosen.

    Attributes:
      rates: all that are tried by now, in ascending order; those that the grid grew by are among them.
      chosen: the best of them; None while a cell is missing, or if every one has a failed cell.
      at_edge: whether the best is the least or the greatest that was tried, so that a better one may lie beyond.
      extra_rates: those that the grid grew by.
    """

    rates: tuple[float, ...]
    chosen: float | None
    at_edge: bool = False
    extra_rates: tuple[float, ...] = ()


def choose_rate(spec: Spec, arm: Arm, scores: Scores) -> RateChoice:
    """Returns the rate of an arm by the mean score over the selection seeds; the lower of two that are equal.

    Where the best is at the grid's edge, the grid grows by one rate there, by the factor between the last two, at most
    `most_extra_rates` times at each side.
    """
    rates = list(arm.learning_rates)
    if len(rates) == 1:
        return RateChoice(tuple(rates), rates[0])
    below = above = 0
    while True:
        means = [_mean_score(spec, arm, rate, scores) for rate in rates]
        extra = tuple(rate for rate in rates if rate not in arm.learning_rates)
        if None in means or not math.isfinite(min(means)):
            return RateChoice(tuple(rates), None, extra_rates=extra)
        best = means.index(min(means))
        if best == 0 and below < spec.most_extra_rates:
            rates, below = [_rounded(rates[0] * rates[0] / rates[1]), *rates], below + 1
        elif best == len(rates) - 1 and above < spec.most_extra_rates:
            rates, above = [*rates, _rounded(rates[-1] * rates[-1] / rates[-2])], above + 1
        else:
            return RateChoice(tuple(rates), rates[best], best in (0, len(rates) - 1), extra)


def planned_cells(spec: Spec, choices: Mapping[str, RateChoice]) -> list[Cell]:
    """Returns every cell that the study has by now, in the order in which they run.

    Seeds come before arms, so that each pair of arms is whole as early as possible.

    Args:
      spec: of the study.
      choices: the `RateChoice` of each arm whose cells are meant, by its name; more cells follow when one that is open
        is made.
    """
    return [*_selection_cells(spec, choices), *_confirmation_cells(spec, choices)]


def _selection_cells(spec: Spec, choices: Mapping[str, RateChoice]) -> Iterator[Cell]:
    for seed in spec.selection_seeds:
        for name in _in_order(spec, choices):
            rates = choices[name].rates
            if len(rates) > 1 or not spec.confirmation_seeds:  # else nothing would depend on them
                yield from (Cell(name, rate, seed, SELECTION) for rate in rates)


def _confirmation_cells(spec: Spec, choices: Mapping[str, RateChoice]) -> Iterator[Cell]:
    for seed in spec.confirmation_seeds:
        for name in _in_order(spec, choices):
            rate = choices[name].chosen
            if rate is not None:
                yield Cell(name, rate, seed, CONFIRMATION)


def _in_order(spec: Spec, choices: Mapping[str, RateChoice]) -> list[str]:
    return [arm.name for arm in spec.arms if arm.name in choices]


def _mean_score(spec: Spec, arm: Arm, rate: float, scores: Scores) -> float | None:
    """Returns the mean over the selection seeds, infinity if one of the cells failed, None if one is missing."""
    cells = [Cell(arm.name, rate, seed, SELECTION) for seed in spec.selection_seeds]
    if any(cell not in scores for cell in cells):
        return None
    return math.fsum(math.inf if scores[cell] is None else scores[cell] for cell in cells) / len(cells)


def _rounded(rate: float) -> float:
    """0.009000000000000001 -> 0.009: the name of a cell's folder has the rate."""
    return float(f"{rate:.{SIGNIFICANT_DIGITS}g}")
