"""The figures of a study, as its report has them: of arms, rates, pairs and gaps, and of all together."""

import dataclasses

from algpt2.studies.results import CellResult
from algpt2.studies.statistics import Estimate


@dataclasses.dataclass(frozen=True)
class ArmFigures:
    """An arm at its chosen rate. What no finished cell has told yet is None.

    Attributes:
      arm: its name.
      parameters: of the model, a shared one counted once.
      training_flops: of one cell.
      tokens: that one cell is trained on.
      rehearsed_peak_bytes: peak memory of a TPU's core, where a rehearsal is at hand.
      records: the name that the spec has for its training records, None if they are the study's.
      bugs: of 2020, that it is trained with.
      learning_rate: the chosen one.
      choice: how it was chosen, in words.
      bits_per_byte: validation loss over the seeds.
      nats_per_token: the same in other units.
      seeds: that have finished.
      missing_seeds: planned ones that have not.
    """

    arm: str
    parameters: int
    training_flops: float
    tokens: int
    rehearsed_peak_bytes: int | None
    records: str | None
    bugs: tuple[str, ...]
    learning_rate: float | None
    choice: str
    bits_per_byte: Estimate | None
    nats_per_token: Estimate | None
    seeds: tuple[int, ...]
    missing_seeds: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class RateFigures:
    """An arm at one of the rates that were tried on the selection seeds."""

    arm: str
    learning_rate: float
    bits_per_byte: Estimate | None
    finished: int
    failed: int
    missing: int
    chosen: bool


@dataclasses.dataclass(frozen=True)
class Difference:
    """The first arm minus the second, paired by seed: positive where the first is worse.

    Attributes:
      first: an arm.
      second: another.
      seeds: finished in both, of which the difference is made.
      missing_seeds: planned ones that one of them lacks.
      bits_per_byte: None without a seed.
      nats_per_token: the same in other units.
      p: of the paired t-test, None where there is none.
      p_holm: the same after Holm's correction over all pairs of the study that have one.
      same_training_data: false where an arm has other training records by its `records`.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    missing_seeds: tuple[int, ...]
    bits_per_byte: Estimate | None
    nats_per_token: Estimate | None
    p: float | None
    p_holm: float | None
    same_training_data: bool


@dataclasses.dataclass(frozen=True)
class GapClosed:
    """How much of the gap between an arm and its control a change closes that both get.

    Attributes:
      arm: the arm.
      control: what it is compared with.
      changed: the arm with the change.
      changed_control: the control with the change.
      seeds: finished in all four.
      missing_seeds: planned ones that one of them lacks.
      gap: arm - control in bits per byte, None without a seed.
      changed_gap: changed - changed_control.
      closed: 1 - mean changed gap / mean gap with Fieller's interval; None where there is no gap to close.
      closed_by_seed: 1 - changed gap / gap of each of `seeds`; empty where there is no gap to close.
      same_training_data: false where an arm has other training records by its `records`.
    """

    arm: str
    control: str
    changed: str
    changed_control: str
    seeds: tuple[int, ...]
    missing_seeds: tuple[int, ...]
    gap: Estimate | None
    changed_gap: Estimate | None
    closed: Estimate | None
    closed_by_seed: tuple[float, ...]
    same_training_data: bool


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A study's figures, all of which follow from the spec and the results, and none from a clock.

    Attributes:
      question: of the spec.
      decision: its rule, written before the runs.
      stage: whose cells the arms' figures are made of: `confirmation`, or `selection` in a study without such seeds.
      arms: in the order of the spec.
      rates: every arm at every rate that was tried.
      differences: the spec's pairs.
      gaps: the spec's gaps.
      unfinished: cells that failed or are missing.
    """

    question: str
    decision: str
    stage: str
    arms: tuple[ArmFigures, ...]
    rates: tuple[RateFigures, ...]
    differences: tuple[Difference, ...]
    gaps: tuple[GapClosed, ...]
    unfinished: tuple[CellResult, ...]
