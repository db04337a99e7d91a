"""A study's report as sections of sentences, tables and charts, of which Markdown, HTML and the terminal are made."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from algpt2.studies.cells import SELECTION
from algpt2.studies.charts import Interval, flops_chart, intervals_chart, parameters_chart, rates_chart
from algpt2.studies.figures import Analysis, ArmFigures, Difference, GapClosed, RateFigures
from algpt2.studies.results import CellResult
from algpt2.studies.statistics import Estimate
from algpt2.studies.verdicts import difference_verdict, gap_verdict, missing_seeds_note

GIB = 1 << 30
UNKNOWN = "-"


class Table(NamedTuple):
    """Texts in rows. The columns with a number in `prose` hold words, which a page may break into lines."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    prose: frozenset[int] = frozenset()


class Chart(NamedTuple):
    """An SVG image with the name of its file, without an ending, and what it shows."""

    name: str
    title: str
    image: bytes


class Section(NamedTuple):
    """A part of the report: what is said, a table, charts, and notes below them."""

    title: str
    sentences: tuple[str, ...]
    table: Table | None = None
    charts: tuple[Chart, ...] = ()
    notes: tuple[str, ...] = ()


class Speed(NamedTuple):
    """The throughput of an arm's cells: the one thing in a report that another machine changes."""

    arm: str
    median_tokens_per_second: float | None
    cells: int


def sections(analysis: Analysis, speeds: Sequence[Speed]) -> list[Section]:
    """Returns the report in its order. Only the last section tells what a clock has measured.

    Raises:
      UserError: matplotlib is not installed.
    """
    parts = [_arms(analysis)]
    parts += [_differences(analysis)] if analysis.differences else []
    parts += [_gaps(analysis)] if analysis.gaps else []
    parts += [_rates(analysis)] if analysis.rates else []
    return [*parts, _sizes(analysis), _unfinished(analysis.unfinished), _speeds(speeds)]


def _arms(analysis: Analysis) -> Section:
    head = (
        *("arm", "parameters", "training FLOPs", "tokens", "peak memory of a core", "learning rate"),
        *("place in the grid", "validation bits per byte", "95% interval", "s.d.", "n"),
    )
    sentences = [
        _rule(analysis),
        "Means over n seeds at each arm's chosen rate, with Student's 95% interval and one seed's standard deviation.",
    ]
    if analysis.stage == SELECTION and any(arm.choice != "given" for arm in analysis.arms):
        sentences.append(
            "The study has no confirmation seeds: these are the cells by which the rates were chosen, so a mean is the "
            "best of several and lower than fresh seeds would give."
        )
    notes = [note for arm in analysis.arms for note in _arm_notes(arm)]
    if any(arm.bits_per_byte and arm.bits_per_byte.low is None for arm in analysis.arms):
        notes.append("One seed gives no interval.")
    rows = tuple(_arm_row(arm) for arm in analysis.arms)
    return Section("Arms", tuple(sentences), Table(head, rows, frozenset({6})), notes=tuple(notes))


def _arm_notes(arm: ArmFigures) -> Iterable[str]:
    if note := missing_seeds_note(arm.arm, arm.seeds, arm.missing_seeds):
        yield note
    if arm.records is not None:
        yield f"{arm.arm}: trained on other records than the study's, `{arm.records}`."
    if arm.bugs:
        yield f"{arm.arm}: trained with {', '.join(f'`{bug}`' for bug in arm.bugs)} of 2020."


def _arm_row(arm: ArmFigures) -> tuple[str, ...]:
    peak = arm.rehearsed_peak_bytes
    return (
        arm.arm,
        f"{arm.parameters:,}",
        f"{arm.training_flops:.3e}",
        f"{arm.tokens:,}",
        UNKNOWN if peak is None else f"{peak / GIB:.2f} GiB",
        UNKNOWN if arm.learning_rate is None else f"{arm.learning_rate:g}",
        arm.choice,
        *_mean_and_interval(arm.bits_per_byte),
        _deviation(arm.bits_per_byte),
        str(len(arm.seeds)),
    )


def _rule(analysis: Analysis) -> str:
    return f"Decision rule, written before the runs: {analysis.decision}"


def _differences(analysis: Analysis) -> Section:
    head = (
        *("first - second", "bits per byte", "95% interval", "s.d.", "nats per token", "95% interval"),
        *("p", "p after Holm", "n", "what it says"),
    )
    tests = sum(one.p is not None for one in analysis.differences)
    sentences = (
        _rule(analysis),
        "Differences of the same seed, so of the same batches in the same order; a positive one says that the first "
        "arm is worse. The intervals are for one pair each; Holm's correction is over "
        f"{tests} paired t-test{'' if tests == 1 else 's'}.",
    )
    rows = tuple(_difference_row(one) for one in analysis.differences)
    intervals = [
        Interval(_pair_name(one), one.bits_per_byte) for one in analysis.differences if one.bits_per_byte is not None
    ]
    label = "difference in validation bits per byte"
    return Section(
        "Differences",
        sentences,
        Table(head, rows, frozenset({9})),
        _charts(("differences", "Differences, with 95% intervals", intervals_chart(intervals, label, lines=(0,)))),
        tuple(_notes((_pair_name(one), one) for one in analysis.differences)),
    )


def _difference_row(one: Difference) -> tuple[str, ...]:
    return (
        _pair_name(one),
        *_mean_and_interval(one.bits_per_byte, sign="+"),
        _deviation(one.bits_per_byte),
        *_mean_and_interval(one.nats_per_token, sign="+"),
        _p(one.p),
        _p(one.p_holm),
        str(len(one.seeds)),
        difference_verdict(one),
    )


def _gaps(analysis: Analysis) -> Section:
    head = (
        *("gap", "bits per byte", "95% interval", "with the change", "bits per byte", "95% interval"),
        *("gap closed", "95% interval", "by seed", "n", "what it says"),
    )
    sentences = (
        _rule(analysis),
        "Gap closed = 1 - (changed - changed control) / (arm - control), a ratio of means over seeds with Fieller's "
        "95% interval, which knows that the gap in the denominator is noisy too. It is left out where there is no gap "
        "to close.",
    )
    intervals = [Interval(_gap_name(one), one.closed) for one in analysis.gaps if one.closed is not None]
    chart = intervals_chart(intervals, "fraction of the gap that is closed", lines=(0, 1))
    return Section(
        "Gaps closed",
        sentences,
        Table(head, tuple(_gap_row(one) for one in analysis.gaps), frozenset({10})),
        _charts(("gaps", "Gaps closed, with 95% intervals", chart)),
        tuple(_notes((_gap_name(one), one) for one in analysis.gaps)),
    )


def _gap_row(one: GapClosed) -> tuple[str, ...]:
    return (
        f"{one.arm} - {one.control}",
        *_mean_and_interval(one.gap, sign="+"),
        f"{one.changed} - {one.changed_control}",
        *_mean_and_interval(one.changed_gap, sign="+"),
        *_mean_and_interval(one.closed, digits=3),
        " ".join(f"{closed:.3f}" for closed in one.closed_by_seed) or UNKNOWN,
        str(len(one.seeds)),
        gap_verdict(one),
    )


def _rates(analysis: Analysis) -> Section:
    head = ("arm", "learning rate", "validation bits per byte", "95% interval", "n", "failed", "missing", "chosen")
    sentence = "What each arm came to on the selection seeds; a rate with a failed cell is not chosen."
    chart = ("rates", "Loss over the learning rate", rates_chart(analysis))
    table = Table(head, tuple(_rate_row(one) for one in analysis.rates))
    notes = [
        f"{arm.arm}: the chosen rate is {arm.choice}, so a better one may lie beyond."
        for arm in analysis.arms
        if "edge" in arm.choice
    ]
    return Section("Learning rates", (sentence,), table, _charts(chart), tuple(notes))


def _rate_row(one: RateFigures) -> tuple[str, ...]:
    return (
        *(one.arm, f"{one.learning_rate:g}", *_mean_and_interval(one.bits_per_byte)),
        *(str(one.finished), str(one.failed), str(one.missing), "yes" if one.chosen else ""),
    )


def _sizes(analysis: Analysis) -> Section:
    charts = _charts(
        ("parameters", "Loss over parameters", parameters_chart(analysis)),
        ("flops", "Loss over training FLOPs", flops_chart(analysis)),
    )
    if not charts:
        return Section("Parameters and FLOPs", ("No cell at a chosen rate has finished yet.",))
    return Section("Parameters and FLOPs", ("The arms' means with their 95% intervals.",), charts=charts)


def _unfinished(cells: Sequence[CellResult]) -> Section:
    title = "Cells that failed or are missing"
    if not cells:
        return Section(title, ("None: every cell that is planned has finished.",))
    head = ("arm", "learning rate", "seed", "stage", "status", "reason")
    rows = tuple(
        (one.cell.arm, f"{one.cell.learning_rate:g}", str(one.cell.seed), one.cell.stage, one.status, _reason(one))
        for one in cells
    )
    return Section(title, (), Table(head, rows, frozenset({5})))


def _reason(one: CellResult) -> str:
    return " ".join((one.reason or "it has not run yet").split())


def _speeds(speeds: Sequence[Speed]) -> Section:
    sentence = "The median over an arm's finished cells. The only figures here that the machine decides."
    return Section("Speed", (sentence,), Table(("arm", "tokens/s", "cells"), tuple(map(_speed_row, speeds))))


def _speed_row(one: Speed) -> tuple[str, ...]:
    median = one.median_tokens_per_second
    return one.arm, UNKNOWN if median is None else f"{median:,.0f}", str(one.cells)


def _charts(*charts: tuple[str, str, bytes | None]) -> tuple[Chart, ...]:
    return tuple(Chart(name, title, image) for name, title, image in charts if image is not None)


def _notes(named: Iterable[tuple[str, Difference | GapClosed]]) -> Iterable[str]:
    for name, one in named:
        if note := missing_seeds_note(name, one.seeds, one.missing_seeds):
            yield note
        if not one.same_training_data:
            yield f"{name}: the training data differs, by the arms' `records`; validation data and tokenizer do not."


def _pair_name(one: Difference) -> str:
    return f"{one.first} - {one.second}"


def _gap_name(one: GapClosed) -> str:
    return f"{one.arm} - {one.control} by {one.changed}"


def _mean_and_interval(estimate: Estimate | None, digits: int = 4, sign: str = "") -> tuple[str, str]:
    if estimate is None:
        return UNKNOWN, UNKNOWN
    mean = f"{estimate.mean:{sign}.{digits}f}"
    if estimate.low is None:
        return mean, "none"
    return mean, f"{estimate.low:{sign}.{digits}f} to {estimate.high:{sign}.{digits}f}"


def _deviation(estimate: Estimate | None) -> str:
    return UNKNOWN if estimate is None or estimate.standard_deviation is None else f"{estimate.standard_deviation:.4f}"


def _p(p: float | None) -> str:
    if p is None:
        return UNKNOWN
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}"
