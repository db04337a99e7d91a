"""What every zero-shot evaluation gives: figures under named protocols, beside those that were published of gpt2."""

import dataclasses
import math
import typing
from collections.abc import Mapping
from typing import Any

from algpt2.tables import aligned

PUBLISHED_MODEL = "gpt2 (124M)"


@dataclasses.dataclass(frozen=True)
class ZeroShotProtocol:
    """How examples become tokens, and what is counted of them.

    Attributes:
      name: what the command line calls it.
      description: the protocol in words, which stands beside every result.
      published: figures of gpt2 124M under it, or near it, by the names of the scores' `figures`.
      source: where they were published.
    """

    name: str
    description: str
    published: Mapping[str, float]
    source: str


NamedProtocol = typing.TypeVar("NamedProtocol", bound=ZeroShotProtocol)


class ZeroShotScores(typing.Protocol):
    """What an evaluation returns."""

    def figures(self) -> dict[str, float | None]:
        """Returns what is compared between models, by name."""

    def counts(self) -> dict[str, int]:
        """Returns how much was scored."""


def chosen(protocols: Mapping[str, NamedProtocol], name: str) -> list[NamedProtocol]:
    """Returns the protocol of a name, or every one for "all"."""
    return [*protocols.values()] if name == "all" else [protocols[name]]


def standard_error(accuracy: float, n: int) -> float | None:
    """Returns the standard error of a share of `n` answers, sqrt(p (1 - p) / (n - 1)); None for a single answer."""
    return math.sqrt(accuracy * (1 - accuracy) / (n - 1)) if n > 1 else None


def result_of_protocol(protocol: ZeroShotProtocol, scores: ZeroShotScores) -> dict[str, Any]:
    """Returns the figures, the counts behind them, the protocol in words, and published figures with their source."""
    published = {"model": PUBLISHED_MODEL, "figures": dict(protocol.published), "source": protocol.source}
    return {
        "description": protocol.description,
        "figures": scores.figures(),
        "counts": scores.counts(),
        "published": published if protocol.published else None,
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the results of several protocols as a table for people, a line for each figure.

    Args:
      results: of `result_of_protocol`, by the protocol's name.
    """
    rows = [("protocol", "figure", "value", "standard error", PUBLISHED_MODEL)]
    for protocol, result in results.items():
        published = (result["published"] or {}).get("figures", {})
        for name, value in result["figures"].items():
            if not name.endswith("_stderr"):
                error = result["figures"].get(f"{name}_stderr")
                rows.append((protocol, name, number(value), number(error), number(published.get(name))))
    return aligned(rows)


def number(value: Any) -> str:
    """Returns a figure with four digits behind the point, and "-" for what is none."""
    return f"{value:.4f}" if isinstance(value, (int, float)) else "-"
