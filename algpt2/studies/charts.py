"""A study's charts as SVG images: losses over rates, parameters and FLOPs, and intervals of differences.

They look as those of a run's report do, whose module draws the image (`tracking/report_charts.py`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from algpt2.studies.figures import Analysis
from algpt2.studies.statistics import Estimate
from algpt2.tracking import report_charts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BITS_PER_BYTE = "validation bits per byte"
MARKERS = "osD^vP*X"  # as many arms as there are colours share one
ROW_INCHES, FRAME_INCHES = 0.32, 1.1
LEGEND_ROW_INCHES = 0.23
LINE_COLOUR = "#666666"
WIDE_RANGE = 4  # a narrower axis of logarithms would have one mark of 1, 2, 3, 5 or none
BEYOND_LETTERS = 1e12
MOST_SPREADS = 4.0  # what is so many times further above the least loss than the worst arm's best is left out


class Points(NamedTuple):
    """An arm's losses over a quantity."""

    arm: str
    points: list[tuple[float, Estimate]]


class Interval(NamedTuple):
    """An estimate with what it is of."""

    name: str
    estimate: Estimate


def rates_chart(analysis: Analysis) -> bytes | None:
    """Returns the chart of each arm's loss over its learning rate, None where fewer than two rates were tried."""
    curves = [
        Points(
            arm.arm,
            [(one.learning_rate, one.bits_per_byte) for one in analysis.rates if one.arm == arm.arm and one.finished],
        )
        for arm in analysis.arms
    ]
    if not any(len(curve.points) > 1 for curve in curves):
        return None
    return _losses(curves, "peak learning rate", joined=True)


def parameters_chart(analysis: Analysis) -> bytes | None:
    """Returns the chart of the arms' losses over their parameters, None where there is no loss."""
    return _losses(_one_point_an_arm(analysis, "parameters"), "parameters", joined=False)


def flops_chart(analysis: Analysis) -> bytes | None:
    """Returns the chart of the arms' losses over the FLOPs of their training, None where there is no loss."""
    return _losses(_one_point_an_arm(analysis, "training_flops"), "training FLOPs of a cell", joined=False)


def intervals_chart(intervals: Sequence[Interval], label: str, lines: Sequence[float]) -> bytes | None:
    """Returns the chart of estimates, one below the other; None where there is none.

    Args:
      intervals: from top to bottom.
      label: of the axis, with its unit.
      lines: values of the axis with a line each, such as zero.
    """
    if not intervals:
        return None
    height = FRAME_INCHES + ROW_INCHES * len(intervals)
    return report_charts.svg(lambda axes: _draw_intervals(axes, intervals, label, lines), height)


def _one_point_an_arm(analysis: Analysis, quantity: str) -> list[Points]:
    return [
        Points(arm.arm, [(getattr(arm, quantity), arm.bits_per_byte)] if arm.bits_per_byte else [])
        for arm in analysis.arms
    ]


def _losses(curves: Sequence[Points], x_label: str, joined: bool) -> bytes | None:
    if not any(curve.points for curve in curves):
        return None
    height = max(report_charts.HEIGHT_INCHES, FRAME_INCHES + LEGEND_ROW_INCHES * len(curves))
    return report_charts.svg(lambda axes: _draw_losses(axes, curves, x_label, joined), height)


def _draw_losses(axes: "Axes", curves: Sequence[Points], x_label: str, joined: bool) -> None:
    for number, curve in enumerate(curves):
        if not curve.points:
            continue
        x, estimates = zip(*curve.points, strict=True)
        axes.errorbar(
            x,
            [estimate.mean for estimate in estimates],
            yerr=_half_widths(estimates),
            label=curve.arm,
            color=report_charts.colour(number),
            marker=MARKERS[number // len(report_charts.COLOURS) % len(MARKERS)],
            markersize=5,
            linewidth=report_charts.line_width(number, len(curves)),
            linestyle="solid" if joined else "none",
            capsize=3,
        )
    axes.set_xscale("log")
    if joined:
        axes.set_ylim(top=upper_limit(curves))
    _label_losses(axes, x_label)


def upper_limit(curves: Sequence[Points]) -> float | None:
    """Returns a bound that only losses far above every arm's best exceed, or None to show all of them.

    A rate that nearly diverges would flatten every difference that matters.
    """
    bests = [min(estimate.mean for _, estimate in curve.points) for curve in curves if curve.points]
    bound = min(bests) + MOST_SPREADS * (max(bests) - min(bests))
    highest = max(estimate.mean for curve in curves for _, estimate in curve.points)
    return bound if max(bests) < bound < highest else None


def _label_losses(axes: "Axes", x_label: str) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    least, greatest = axes.get_xlim()
    axes.set_xlabel(x_label)
    axes.set_ylabel(BITS_PER_BYTE)
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 3, 5)) if greatest / least > WIDE_RANGE else MaxNLocator(4, steps=[1, 2, 5, 10])
    )
    axes.xaxis.set_major_formatter(_short_or_scientific)
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    report_charts.add_grid(axes)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=9)


def _short_or_scientific(value: float, _: int | None = None) -> str:
    """2e4 -> '20k', 1.5e15 -> '1.5e+15'."""
    return report_charts.short_number(value) if value < BEYOND_LETTERS else f"{value:g}"


def _draw_intervals(axes: "Axes", intervals: Sequence[Interval], label: str, lines: Sequence[float]) -> None:
    places = range(len(intervals))
    estimates = [interval.estimate for interval in intervals]
    for value in lines:
        axes.axvline(value, color=LINE_COLOUR, linewidth=report_charts.NARROWEST, linestyle="dashed")
    axes.errorbar(
        [estimate.mean for estimate in estimates],
        places,
        xerr=_half_widths(estimates),
        color=report_charts.colour(0),
        marker="o",
        markersize=5,
        linewidth=report_charts.NARROWEST,
        linestyle="none",
        capsize=3,
    )
    axes.set_yticks(places, [f"{one.name} (n = {one.estimate.n})" for one in intervals])
    axes.set_ylim(len(intervals) - 0.5, -0.5)
    axes.set_xlabel(label)
    report_charts.add_grid(axes)


def _half_widths(estimates: Sequence[Estimate]) -> list[list[float]] | None:
    """Returns how far each interval reaches below its mean and above it, not at all where there is none; None if all
    have none.
    """
    if all(one.low is None for one in estimates):
        return None
    below = [0.0 if one.low is None else one.mean - one.low for one in estimates]
    above = [0.0 if one.high is None else one.high - one.mean for one in estimates]
    return [below, above]
