"""What the cells of a study say: each arm's figures, each pair's difference, and how much of each gap is closed."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from algpt2.studies.cells import CONFIRMATION, SELECTION
from algpt2.studies.comparability import finished, require_comparable, train_on_the_same
from algpt2.studies.figures import Analysis, ArmFigures, Difference, GapClosed, RateFigures
from algpt2.studies.results import FAILED, FINISHED, CellResult, Study
from algpt2.studies.spec import Gap, Pair
from algpt2.studies.statistics import Estimate, holm, mean_interval, paired_p, ratio_interval

SeedResults = Mapping[int, CellResult]
"""The finished cells of an arm at its chosen rate, by seed: those that its figures are made of."""


def analyse(study: Study) -> Analysis:
    """Returns what a study's cells say by now.

    Raises:
      UserError: cells differ in tokens, data or tokenizer, so that their difference would mean nothing.
    """
    require_comparable(study)
    stage, seeds = _judged(study)
    results = {arm.name: _at_chosen_rate(study, arm.name, stage) for arm in study.spec.arms}
    differences = [_difference(pair, results, seeds) for pair in study.spec.pairs]
    adjusted = holm([one.p for one in differences])
    return Analysis(
        question=study.spec.question,
        decision=study.spec.decision,
        stage=stage,
        arms=tuple(_arm_figures(study, name, of_seed, seeds) for name, of_seed in results.items()),
        rates=tuple(_rate_figures(study)),
        differences=tuple(dataclasses.replace(one, p_holm=p) for one, p in zip(differences, adjusted, strict=True)),
        gaps=tuple(_gap_closed(gap, results, seeds) for gap in study.spec.gaps),
        unfinished=tuple(one for one in study.results if one.status != FINISHED),
    )


def _judged(study: Study) -> tuple[str, tuple[int, ...]]:
    """Returns the stage whose cells are judged, and its seeds."""
    if study.spec.confirmation_seeds:
        return CONFIRMATION, study.spec.confirmation_seeds
    return SELECTION, study.spec.selection_seeds


def _at_chosen_rate(study: Study, arm: str, stage: str) -> SeedResults:
    rate = study.chosen_rates.get(arm)
    cells = {one.cell.seed: one for one in finished(study) if _is_at(one, arm, rate, stage)}
    return dict(sorted(cells.items()))


def _is_at(result: CellResult, arm: str, rate: float | None, stage: str) -> bool:
    return (result.cell.arm, result.cell.learning_rate, result.cell.stage) == (arm, rate, stage)


def _arm_figures(study: Study, name: str, results: SeedResults, seeds: Sequence[int]) -> ArmFigures:
    one, arm = next(one for one in study.results if one.cell.arm == name), study.spec.arm(name)
    return ArmFigures(
        arm=name,
        parameters=one.parameters,
        training_flops=one.flops,
        tokens=one.tokens,
        rehearsed_peak_bytes=one.rehearsed_peak_bytes,
        records=arm.records,
        bugs=arm.bugs,
        learning_rate=study.chosen_rates.get(name),
        choice=_choice(study, name),
        bits_per_byte=_mean(_bits(one) for one in results.values()),
        nats_per_token=_mean(_nats(one) for one in results.values()),
        seeds=tuple(results),
        missing_seeds=_without(seeds, results),
    )


def _choice(study: Study, name: str) -> str:
    """Returns how an arm came to its rate, in words."""
    choice = study.rate_choices[name]
    grown = ", the grid having grown" if choice.extra_rates else ""
    if len(choice.rates) == 1:
        return "given"
    if choice.chosen is None:
        return "none yet"
    if not choice.at_edge:
        return f"within the grid{grown}"
    return f"at the grid's {'lower' if choice.chosen == choice.rates[0] else 'upper'} edge{grown}"


def _rate_figures(study: Study) -> Iterable[RateFigures]:
    selected = [one for one in study.results if one.cell.stage == SELECTION]
    for place in dict.fromkeys((one.cell.arm, one.cell.learning_rate) for one in _by_arm_and_rate(study, selected)):
        cells = [one for one in selected if (one.cell.arm, one.cell.learning_rate) == place]
        statuses = [one.status for one in cells]
        done, failed = statuses.count(FINISHED), statuses.count(FAILED)
        yield RateFigures(
            arm=place[0],
            learning_rate=place[1],
            bits_per_byte=_mean(_bits(one) for one in cells if one.status == FINISHED),
            finished=done,
            failed=failed,
            missing=len(cells) - done - failed,
            chosen=study.chosen_rates.get(place[0]) == place[1],
        )


def _by_arm_and_rate(study: Study, results: Iterable[CellResult]) -> list[CellResult]:
    order = {arm.name: place for place, arm in enumerate(study.spec.arms)}
    return sorted(results, key=lambda one: (order[one.cell.arm], one.cell.learning_rate))


def _difference(pair: Pair, results: Mapping[str, SeedResults], seeds: Sequence[int]) -> Difference:
    """Returns a pair's difference, its p not yet corrected for the other pairs."""
    first, second = (results[name] for name in pair.arms)
    common = _common(pair.names, results)
    of_both = [one[seed] for one in (first, second) for seed in common]
    values = [[_bits(one[seed]) for seed in common] for one in (first, second)]
    return Difference(
        first=pair.arms[0],
        second=pair.arms[1],
        seeds=common,
        missing_seeds=_without(seeds, common),
        bits_per_byte=_mean(_bits(first[seed]) - _bits(second[seed]) for seed in common),
        nats_per_token=_mean(_nats(first[seed]) - _nats(second[seed]) for seed in common),
        p=paired_p(*values) if common else None,
        p_holm=None,
        same_training_data=train_on_the_same(of_both) or not common,
    )


def _gap_closed(gap: Gap, results: Mapping[str, SeedResults], seeds: Sequence[int]) -> GapClosed:
    common = _common(gap.names, results)
    bits = {name: [_bits(results[name][seed]) for seed in common] for name in gap.names}
    gaps = _minus(bits[gap.arm], bits[gap.control])
    changed_gaps = _minus(bits[gap.changed], bits[gap.changed_control])
    closes = has_gap(_mean(gaps))
    of_all = [results[name][seed] for name in gap.names for seed in common]
    return GapClosed(
        arm=gap.arm,
        control=gap.control,
        changed=gap.changed,
        changed_control=gap.changed_control,
        seeds=common,
        missing_seeds=_without(seeds, common),
        gap=_mean(gaps),
        changed_gap=_mean(changed_gaps),
        closed=_one_minus(ratio_interval(changed_gaps, gaps)) if closes else None,
        closed_by_seed=tuple(1 - new / old for new, old in zip(changed_gaps, gaps, strict=True) if closes and old),
        same_training_data=train_on_the_same(of_all) or not common,
    )


def has_gap(gap: Estimate | None) -> bool:
    """Returns whether an arm is worse than its control: by its interval, or by the one value that there is."""
    return gap is not None and (gap.mean if gap.low is None else gap.low) > 0


def _one_minus(ratio: Estimate | None) -> Estimate | None:
    if ratio is None or ratio.low is None:
        return ratio and dataclasses.replace(ratio, mean=1 - ratio.mean)
    return Estimate(1 - ratio.mean, 1 - ratio.high, 1 - ratio.low, ratio.n)


def _mean(values: Iterable[float]) -> Estimate | None:
    values = list(values)
    return mean_interval(values) if values else None


def _minus(first: Sequence[float], second: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(first, second, strict=True)]


def _common(names: Iterable[str], results: Mapping[str, SeedResults]) -> tuple[int, ...]:
    """Returns the seeds that have finished in all of the arms."""
    return tuple(sorted(set.intersection(*(set(results[name]) for name in names))))


def _without(seeds: Sequence[int], present: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(seeds) - set(present)))


def _bits(result: CellResult) -> float:
    return result.val_bits_per_byte


def _nats(result: CellResult) -> float:
    return result.val_nats_per_token
