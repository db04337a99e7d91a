"""Tables for people: rows of texts as lines, each column as wide as its widest cell."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of the same number of cells as lines, columns apart by two spaces."""
    return "\n".join("  ".join(cells).rstrip() for cells in _padded(rows))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns rows of the same number of cells as a Markdown table, of which the first is the header."""
    header, *others = _padded(rows)
    rule = ["-" * len(cell) for cell in header]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *others))


def _padded(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
