"""What a study will take, by arithmetic from its spec: cells, tokens, FLOPs, and hours at a given speed."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence

from algpt2.errors import UserError
from algpt2.studies.cells import CONFIRMATION, SELECTION, Cell
from algpt2.studies.cost import cell_flops
from algpt2.studies.results import FINISHED, CellResult, scores_of
from algpt2.studies.spec import Spec
from algpt2.studies.stages import RateChoice, choose_rate, planned_cells

SECONDS_PER_HOUR = 3600


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast cells are trained; None is not known. The time of a cell's start and end is not in it."""

    tokens_per_second: float | None = None
    flops_per_second: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{field.name} must be a finite number above 0, received {value}: give a speed.")

    def hours(self, tokens: int, flops: float) -> float | None:
        """Returns how long so much takes, by FLOPs where their speed is known."""
        if self.flops_per_second:
            return flops / self.flops_per_second / SECONDS_PER_HOUR
        return tokens / self.tokens_per_second / SECONDS_PER_HOUR if self.tokens_per_second else None


@dataclasses.dataclass(frozen=True)
class StageRow:
    """What the cells of a stage take.

    Attributes:
      stage: which one.
      cells: that it has by now, of which those that have finished cost nothing any more.
      finished: how many have finished.
      most_cells: how many it has if every grid grows as far as it may.
      tokens: of the cells that have not finished.
      flops: of these.
      hours: of these, None if no speed is given.
    """

    stage: str
    cells: int
    finished: int
    most_cells: int
    tokens: int
    flops: float
    hours: float | None


def list_stages(
    spec: Spec, arms: Sequence[str], results: Mapping[Cell, CellResult], speed: Speed = Speed()
) -> list[StageRow]:
    """Returns what each stage takes, and `total`, of all stages.

    Args:
      spec: of the study.
      arms: the names of the arms that are run.
      results: of the cells that have ended.
      speed: by which hours are counted.
    """
    choices = {name: choose_rate(spec, spec.arm(name), scores_of(results)) for name in arms}
    cells = [*planned_cells(spec, choices), *_cells_at_open_rates(spec, choices)]
    finished = {cell for cell, one in results.items() if one.status == FINISHED}
    growth = {SELECTION: _most_growth(spec, choices), CONFIRMATION: 0}
    rows = []
    for stage in (SELECTION, CONFIRMATION):
        of_stage = [cell for cell in cells if cell.stage == stage]
        rows.append(_row(spec, stage, of_stage, finished, growth[stage], speed))
    return [*rows, _row(spec, "total", cells, finished, sum(growth.values()), speed)]


def format_stages(rows: Sequence[StageRow]) -> str:
    """Returns the rows as a table for people."""
    lines = [("stage", "cells", "finished", "at most", "tokens left", "FLOPs left", "hours left")]
    lines += [
        (
            *(row.stage, str(row.cells), str(row.finished), str(row.most_cells), f"{row.tokens:,}"),
            *(f"{row.flops:.3g}", "-" if row.hours is None else f"{row.hours:.2f}"),
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def _cells_at_open_rates(spec: Spec, choices: Mapping[str, RateChoice]) -> list[Cell]:
    """Returns the confirmation cells of arms whose rate is not chosen yet, at any rate, which costs the same."""
    undecided = [name for name, choice in choices.items() if choice.chosen is None]
    return [
        Cell(name, choices[name].rates[0], seed, CONFIRMATION) for seed in spec.confirmation_seeds for name in undecided
    ]


def _most_growth(spec: Spec, choices: Mapping[str, RateChoice]) -> int:
    """Returns how many selection cells may still be added."""
    open_choices = [one for one in choices.values() if len(one.rates) > 1 and one.chosen is None]
    most = sum(2 * spec.most_extra_rates - len(one.extra_rates) for one in open_choices)
    return most * len(spec.selection_seeds)


def _row(
    spec: Spec, stage: str, cells: Sequence[Cell], finished: Collection[Cell], growth: int, speed: Speed
) -> StageRow:
    left = [cell for cell in cells if cell not in finished]
    tokens = spec.tokens * len(left)
    flops = math.fsum(cell_flops(spec, cell) for cell in left)
    return StageRow(
        stage=stage,
        cells=len(cells),
        finished=len(cells) - len(left),
        most_cells=len(cells) + growth,
        tokens=tokens,
        flops=flops,
        hours=speed.hours(tokens, flops),
    )
