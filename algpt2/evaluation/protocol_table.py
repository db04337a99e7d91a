"""The figures of several protocols as a table for people."""

from collections.abc import Sequence
from typing import Any

from algpt2.tables import markdown

COLUMNS = ("protocol", "figure", "value", "bits per byte", "scored tokens", "window", "stride", "gpt2 124M")


def format_table(results: Sequence[dict[str, Any]]) -> str:
    """Returns the results of `evaluate` as an aligned Markdown table; a "-" stands where there is no figure.

    Its last column has what was published for GPT-2 with 124M parameters, in windows of 1024.
    """
    return markdown([COLUMNS, *(_cells(result) for result in results)])


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
