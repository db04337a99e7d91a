"""Rehearsals as a Markdown document."""

from collections.abc import Sequence
from typing import Any

from algpt2.config.model import preset_names
from algpt2.config.training import REMATS
from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import TPU_KINDS, Pod, pod_named

KEY = ("model", "dropout", "remat", "optimizer", "core", "batch_size")
COLUMNS = (
    *("model", "dropout", "remat", "optimizer", "core", "batch", "peak, GiB", "largest batch"),
    *("TFLOP", "GB", "roofline, ms", "MFU at most", "libtpu"),
)
Row = dict[str, Any]


def key_of(row: Row) -> tuple[Any, ...]:
    """Returns what no two rows have in common."""
    return tuple(row[name] for name in KEY)


def one_chip(kind: str) -> Pod:
    """Returns the smallest pod of a kind of TPU."""
    return pod_named(f"{kind}-{1 if TPU_KINDS[kind].names_count_chips else 2}")


def document(rows: Sequence[Row]) -> str:
    """Returns an explanation and the table."""
    return _INTRODUCTION + table(rows)


def table(rows: Sequence[Row]) -> str:
    """Returns the rows, those of a model together, peers first."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, sorted(rows, key=_place))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _place(row: Row) -> tuple[Any, ...]:
    model = preset_names().index(row["model"]) if row["model"] in preset_names() else -1
    return model, row["dropout"], REMATS.index(row["remat"]), list(TPU_KINDS).index(row["core"]), row["optimizer"]


def _cells(row: Row) -> list[str]:
    bounds = ["-"] * 4
    if row["fits"]:
        milliseconds, mfu = f"{row['roofline_seconds'] * 1e3:.1f}", f"{row['mfu_bound']:.1%}"
        bounds = [f"{row['flops'] / 1e12:.2f}", f"{row['bytes_accessed'] / 1e9:.1f}", milliseconds, mfu]
    available = one_chip(row["core"]).replica_hbm_bytes / GIB
    peak = f"{row['peak_hbm_bytes'] / GIB:.2f} of {available:.0f}" + ("" if row["fits"] else ": does not fit")
    return [*map(str, key_of(row)), peak, _largest_batch(row), *bounds, row["libtpu"]]


def _largest_batch(row: Row) -> str:
    if row["largest_batch_per_core"] is None:
        return "-"
    largest, too_large = row["largest_batch_per_core"], row["too_large_batch_per_core"]
    if too_large is None:
        return f"{largest} or more"
    return str(largest) if too_large == largest + 1 else f"{largest} to {too_large - 1}"


_INTRODUCTION = """# Rehearsals

Made by `benchmarks/rehearsal.py`, called as CONTRIBUTING.md says: not edited by hand.

One core's training step, a batch of sequences as long as the model takes, in bfloat16, compiled by libtpu on a machine
without a TPU. A core is one replica: half a v3 chip, a whole chip of v5e and v6e. Peak memory, FLOPs and bytes are the
compiler's; bytes count operands that stay on the chip too. The roofline time is an estimate from those and the makers'
peak rates, without an all-reduce, and so is the MFU, which counts the masked half of attention that our step leaves
out, and so may pass 100%: nothing here was run on a TPU. The largest batch is given where it was searched for, as
a range where the search ended before it was known exactly. Rows are without dropout: with 0.1, gpt2's memory,
FLOPs and traffic on v3 differ by less than 1%, keras-hub's by far more (docs/experiments.md). keras-hub's GPT-2 is
`GPT2Backbone` of 124M parameters at 1024 positions with its tied head, and `keras.optimizers.AdamW`, compiled in the
same way.

"""
