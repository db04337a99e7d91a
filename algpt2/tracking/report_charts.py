"""Curves of several runs as SVG, drawn by matplotlib (the extra `report`)."""

import base64
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from algpt2.errors import UserError
from algpt2.evaluation.published import BASELINES, VALIDATION_BASELINES, Baseline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers tell apart; yellow is left out as too pale for lines.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
FEW_POINTS = 25  # a curve of at most so many has a marker at each of them
MOST_POINTS = 300  # the points of a longer curve are averages of neighbours
STEEP_START = 0.02  # in this first fraction of the longest run, falling curves may lie above the chart
WIDEST, NARROWEST = 2.6, 1.3
WIDTH_INCHES, HEIGHT_INCHES = 7.0, 3.6
BASELINE_COLOUR = "#666666"
BASELINE_DASHES = ("dashed", "dotted", "dashdot")
SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "algpt2", "font.family": "sans-serif", "font.size": 11}


@dataclasses.dataclass(frozen=True)
class Curve:
    """A run's name and its (tokens, value) points, which may be none."""

    name: str
    points: list[tuple[float, float]]

    def thinned(self) -> "Curve":
        """Returns a curve of at most `MOST_POINTS`, each the mean of as many neighbours (the last of fewer)."""
        size = -(-len(self.points) // MOST_POINTS) or 1
        groups = [self.points[i : i + size] for i in range(0, len(self.points), size)]
        return Curve(
            self.name, [tuple(sum(column) / len(group) for column in zip(*group, strict=True)) for group in groups]
        )


@dataclasses.dataclass(frozen=True)
class Chart:
    """Which metric a chart shows, and how. A level line is drawn for each of its published baselines."""

    key: str
    title: str
    unit: str
    logarithmic: bool = False
    falls: bool = False
    from_zero: bool = False
    baselines: tuple[Baseline, ...] = ()


CHARTS = (
    Chart("loss", "Training loss", "nats per token", falls=True),
    Chart("val_bits_per_byte", "Validation bits per byte", "bits per byte", falls=True),
    Chart("learning_rate", "Learning rate", "learning rate", from_zero=True),
    Chart("gradient_norm", "Gradient norm before clipping", "global L2 norm", logarithmic=True),
    Chart("tokens_per_second", "Throughput", "tokens per second", from_zero=True),
)
# These have a place on the page only where a run has logged them.
BENCHMARK_CHARTS = (
    Chart("wikitext_test_word_perplexity", "WikiText, test", "perplexity per word", logarithmic=True),
    Chart("wikitext_word_perplexity", "WikiText, another text", "perplexity per word", logarithmic=True),
    Chart("hellaswag_acc_norm_tokens", "HellaSwag", "fraction right"),
    Chart("lambada_acc", "LAMBADA accuracy", "fraction right"),
    Chart("lambada_perplexity", "LAMBADA perplexity", "perplexity per last word", logarithmic=True),
)
BENCHMARK_CHARTS = tuple(
    dataclasses.replace(chart, baselines=BASELINES.get(chart.key, ())) for chart in BENCHMARK_CHARTS
)


def validation_chart(data: str) -> Chart:
    """Returns the chart of validation loss, for runs whose validation records are of a published data set.

    Args:
      data: a key of `VALIDATION_BASELINES`.
    """
    return Chart("val_loss", "Validation loss", "nats per token", falls=True, baselines=VALIDATION_BASELINES[data])


def colour(index: int) -> str:
    """Returns the colour of the run with this number."""
    return COLOURS[index % len(COLOURS)]


def svg_data_uri(chart: Chart, curves: Sequence[Curve]) -> str:
    """Returns a chart as an image that a page can hold within itself; equal input gives equal bytes.

    Raises:
      UserError: matplotlib is not installed.
    """
    return data_uri(svg(lambda axes: _draw(axes, chart, curves)))


def svg(draw: Callable[["Axes"], None], height_inches: float = HEIGHT_INCHES) -> bytes:
    """Returns an SVG image, on white so that it can be read on a dark page too; equal drawings give equal bytes.

    Args:
      draw: what draws on the image's axes.
      height_inches: of the image, which is `WIDTH_INCHES` wide.

    Raises:
      UserError: matplotlib is not installed.
    """
    return image(lambda figure: draw(figure.add_subplot()), height_inches, "svg")


def image(draw: Callable[["Figure"], None], height_inches: float, file_format: str) -> bytes:
    """Returns an image, on white so that it can be read on a dark page too; equal drawings give equal bytes.

    Args:
      draw: what draws on the figure.
      height_inches: of the image, which is `WIDTH_INCHES` wide.
      file_format: "svg" or "png".

    Raises:
      UserError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format=file_format, metadata={"Date": None} if file_format == "svg" else None)
    return stream.getvalue()


def require_matplotlib() -> None:
    """Raises `UserError` if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError("a report's charts need matplotlib: run `pip install -e '.[report]'`.") from error


def data_uri(image: bytes) -> str:
    """Returns an SVG image as an address that a page can hold within itself."""
    return "data:image/svg+xml;base64," + base64.b64encode(image).decode("ascii")


def _draw(axes: "Axes", chart: Chart, curves: Sequence[Curve]) -> None:
    for index, curve in enumerate(curves):
        if not curve.points:
            continue
        tokens, values = zip(*curve.thinned().points, strict=True)
        width = line_width(index, len(curves))
        marker = "o" if len(tokens) <= FEW_POINTS else None
        axes.plot(tokens, values, color=colour(index), linewidth=width, marker=marker, markersize=width + 2)
    for number, baseline in enumerate(chart.baselines):
        _draw_baseline(axes, baseline, BASELINE_DASHES[number % len(BASELINE_DASHES)])
    if chart.falls:
        axes.set_ylim(top=upper_limit(curves, chart.baselines))
    _label(axes, chart)


def _draw_baseline(axes: "Axes", baseline: Baseline, dashes: str) -> None:
    """Draws a published figure as a level line, with the name of its model above it."""
    axes.axhline(baseline.value, color=BASELINE_COLOUR, linewidth=NARROWEST, linestyle=dashes)
    place = axes.get_yaxis_transform()  # the left end of the axes, at the figure's height
    axes.text(0.01, baseline.value, baseline.model, color=BASELINE_COLOUR, transform=place, va="bottom", fontsize=9)


def line_width(index: int, n_curves: int) -> float:
    """Returns a line's width: later ones are thinner, so that a line beneath one still shows on both sides of it."""
    return WIDEST - (WIDEST - NARROWEST) * index / (n_curves - 1) if n_curves > 1 else NARROWEST


def upper_limit(curves: Sequence[Curve], baselines: Sequence[Baseline] = ()) -> float | None:
    """Returns a bound that only the steep start of falling curves exceeds, or None to show every point."""
    drawn = [curve.points for curve in curves if curve.points]
    longest = max(drawn, key=lambda points: points[-1][0])
    if len(longest) <= FEW_POINTS:
        return None
    start = STEEP_START * longest[-1][0]
    later = [value for points in drawn for tokens, value in points if tokens >= start]
    return max(later + [points[-1][1] for points in drawn] + [baseline.value for baseline in baselines])


def _label(axes: "Axes", chart: Chart) -> None:
    from matplotlib.ticker import LogLocator

    axes.set_xlabel("training tokens")
    axes.set_ylabel(chart.unit)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(short_number)
    if chart.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
    elif chart.from_zero:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(short_number if chart.key == "tokens_per_second" else "{x:g}")
    add_grid(axes)


def add_grid(axes: "Axes") -> None:
    """Draws a pale grid behind the curves, and no frame at the top and at the right."""
    axes.grid(color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def short_number(value: float, _: int | None = None) -> str:
    """Returns a number with a letter for its size: 2.5e9 -> '2.5B', 1.5e6 -> '1.5M', 2e4 -> '20k'."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
