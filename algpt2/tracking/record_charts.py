"""The statistics of records as an image of three charts, drawn by matplotlib (the extra `report`)."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.records.statistics import Tallies
from algpt2.tracking import report_charts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
STEPS_A_DOUBLING = 4
MOST_RANKS = 300  # of more tokens, ranks that lie apart evenly on a logarithmic axis are drawn


def require_drawable(path: str) -> None:
    """Raises `UserError` if the image cannot be drawn, or something is where it would go."""
    if not path.endswith(SUFFIXES):
        raise UserError(f"--plot must end in {' or '.join(SUFFIXES)}, received {path}: name the image so.")
    if storage.exists(path):
        raise UserError(f"--plot must be a new file, and {path} exists: name another.")
    report_charts.require_matplotlib()


def write_statistics_image(path: str, tallies: Tallies) -> None:
    """Writes the charts of documents' lengths, of tokens by their rank, and of rows by their number of documents.

    Args:
      path: of a new file, on disk or gs://, whose suffix is one of `SUFFIXES`.
      tallies: of the records.

    Raises:
      UserError: matplotlib is not installed.
    """

    def draw(figure: "Figure") -> None:
        lengths, ranks, rows = figure.subplots(3)
        _draw_lengths(lengths, tallies.document_tokens)
        _draw_ranks(ranks, tallies.token_uses)
        _draw_rows(rows, tallies.documents_in_a_record)

    suffix = storage.base_name(path).rpartition(".")[2]
    storage.write_bytes(path, report_charts.image(draw, 3 * report_charts.HEIGHT_INCHES, suffix))


def length_bins(lengths: Counter[int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many documents have a length in each of some ranges, and where the ranges begin and the last ends.

    A document counts with its EOS, so the shortest has one token. Ranges grow as the lengths do.

    Args:
      lengths: how many documents have so many tokens, EOS not counted.

    Returns:
      int64 (N,) and float64 (N + 1,).
    """
    values = np.array([*lengths], np.int64) + 1
    doublings = int(values.max(initial=1)).bit_length()
    edges = np.unique(np.floor(2 ** (np.arange(doublings * STEPS_A_DOUBLING + 1) / STEPS_A_DOUBLING)))
    counts, _ = np.histogram(values, edges, weights=np.array([*lengths.values()], np.int64))
    return counts.astype(np.int64), edges


def ranked_uses(token_uses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns ranks, from 1 for the most frequent token on, and how often the tokens of these ranks are used.

    Args:
      token_uses: int64 (vocab_size,); tokens that are never used have no rank.
    """
    uses = np.sort(token_uses[token_uses > 0])[::-1]
    ranks = np.unique(np.round(np.geomspace(1, max(1, len(uses)), MOST_RANKS)).astype(np.int64))[: len(uses)]
    return ranks, uses[ranks - 1]


def _draw_lengths(axes: "Axes", lengths: Counter[int]) -> None:
    counts, edges = length_bins(lengths)
    axes.stairs(counts, edges, fill=True, color=report_charts.colour(0))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(report_charts.short_number)
    _label(axes, "tokens of a document, its EOS counted", "documents")


def _draw_ranks(axes: "Axes", token_uses: np.ndarray) -> None:
    axes.plot(*ranked_uses(token_uses), color=report_charts.colour(1), marker="o", markersize=2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _label(axes, "rank of a token", "times that it is a target")


def _draw_rows(axes: "Axes", documents: Counter[int]) -> None:
    first, last = min(documents), max(documents)
    axes.stairs(
        [documents[count] for count in range(first, last + 1)],
        np.arange(first, last + 2) - 0.5,
        fill=True,
        color=report_charts.colour(2),
    )
    _label(axes, "documents that a record has parts of", "records")


def _label(axes: "Axes", x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    report_charts.add_grid(axes)
