"""The figures of several protocols as a table for people."""

from collections.abc import Sequence
from typing import Any

COLUMNS = ("protocol", "figure", "value", "bits per byte", "scored tokens", "window", "stride", "gpt2 124M")


def format_table(results: Sequence[dict[str, Any]]) -> str:
    """Returns the results of `evaluate` as an aligned Markdown table; a "-" stands where there is no figure.

    Its last column has what was published for GPT-2 with 124M parameters, in windows of 1024.
    """
    lines = [COLUMNS, *(_cells(result) for result in results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    lines.insert(1, tuple("-" * width for width in widths))
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _cells(result: dict[str, Any]) -> tuple[str, ...]:
    bits = result.get("bits_per_byte")
    published = " or ".join(f"{baseline['value']:g}" for baseline in result["published"])
    return (
        result["protocol"],
        result["figure"].replace("_", " "),
        f"{result[result['figure']]:,.4f}",
        "-" if bits is None else f"{bits:.4f}",
        f"{result['scored_tokens']:,}",
        str(result["window"]),
        str(result["stride"]),
        published or "-",
    )
