"""Rehearsals as a Markdown document."""

from collections.abc import Collection
from typing import Any, NamedTuple

from algpt2.config.model import preset_names
from algpt2.config.training import REMATS
from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import TPU_KINDS, Pod, pod_named

COLUMNS = (
    *("model", "dropout", "remat", "optimizer", "core", "batch", "peak, GiB", "largest batch"),
    *("TFLOP", "HBM, GB", "on chip, GB", "roofline, ms", "MFU at the roofline", "libtpu"),
)
Row = dict[str, Any]


class Key(NamedTuple):
    """What no two rows have in common. `batch_size` is that of one core, whose kind is `core`."""

    model: str
    dropout: float
    remat: str
    optimizer: str
    core: str
    batch_size: int


def key_of(row: Row) -> Key:
    """Returns the key of a row."""
    return Key(*(row[name] for name in Key._fields))


def one_chip(kind: str) -> Pod:
    """Returns the smallest pod of a kind of TPU."""
    return pod_named(f"{kind}-{1 if TPU_KINDS[kind].names_count_chips else 2}")


def document(rows: Collection[Row]) -> str:
    """Returns an explanation and the table."""
    return _INTRODUCTION + table(rows)


def table(rows: Collection[Row]) -> str:
    """Returns the rows, those of a model together, peers first."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, sorted(rows, key=_place))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _place(row: Row) -> tuple[Any, ...]:
    model = preset_names().index(row["model"]) if row["model"] in preset_names() else -1
    return model, row["dropout"], REMATS.index(row["remat"]), list(TPU_KINDS).index(row["core"]), row["optimizer"]


def _cells(row: Row) -> list[str]:
    figures = ["-"] * 5
    if row.get("hbm_bytes_moved") is not None:  # it is None where the step does not fit, and missing in an old row
        gigabytes = [f"{row[name] / 1e9:.1f}" for name in ("hbm_bytes_moved", "on_chip_bytes_moved")]
        milliseconds, mfu = f"{row['roofline_seconds'] * 1e3:.1f}", f"{row['mfu_at_roofline']:.1%}"
        figures = [f"{row['flops'] / 1e12:.2f}", *gigabytes, milliseconds, mfu]
    available = one_chip(row["core"]).replica_hbm_bytes / GIB
    peak = f"{row['peak_hbm_bytes'] / GIB:.2f} of {available:.0f}" + ("" if row["fits"] else ": does not fit")
    return [*map(str, key_of(row)), peak, _largest_batch(row), *figures, row["libtpu"]]


def _largest_batch(row: Row) -> str:
    if row["largest_batch_per_core"] is None:
        return "-"
    largest, too_large = row["largest_batch_per_core"], row["too_large_batch_per_core"]
    if too_large is None:
        return f"{largest} or more"
    return str(largest) if too_large == largest + 1 else f"{largest} to {too_large - 1}"


_INTRODUCTION = """# Rehearsals

Made by `benchmarks/rehearsal.py`, called as CONTRIBUTING.md says: not edited by hand.

Each row is one core's training step, compiled by libtpu on a machine without a TPU. The step takes
a batch of sequences as long as the model takes, and computes in bfloat16. A core is one replica:
half a v3 chip, a whole chip of v5e and v6e. Nothing here was run on a TPU.

- **Peak memory** and **FLOPs** are the compiler's.
- **HBM** is what the compiled program reads and writes in the core's main memory, **on chip** what
  it reads and writes in the memories on the chip. Both are counted in its text, at the least that
  each instruction can move (docs/design/preflight.md).
- **The roofline time** is an estimate: the longer of the FLOPs at the maker's peak rate and the HBM
  traffic at the maker's bandwidth. No all-reduce is in it, and traffic on the chip takes no time.
- **MFU at the roofline** is the model's FLOPs in that time over those of the peak rate. It counts
  the masked half of attention, which our step leaves out, so it may pass 100%.
- **The largest batch** is given where it was searched for, as a range where the search ended before
  it was known exactly.

keras-hub's GPT-2 is `GPT2Backbone` of 124M parameters at 1024 positions with its tied head, and
`keras.optimizers.AdamW`, compiled and counted in the same way.

"""
