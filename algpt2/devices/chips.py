"""Accelerators: their peak arithmetic, their memory, and how a device's name tells which one it is."""

import dataclasses
import re

from algpt2.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """An accelerator's dense bfloat16 peak in FLOP/s, its memory in bytes, and how many replicas it makes."""

    peak_flops: float
    memory_bytes: int
    replicas: int = 1


GIB = 2**30
# Peaks and memory are those of the makers' data sheets. TensorFlow makes a replica of each of the two cores of a v2 or
# v3 chip, and one of every later chip.
CHIPS = {
    "v2": Chip(45e12, 16 * GIB, replicas=2),
    "v3": Chip(123e12, 32 * GIB, replicas=2),
    "v4": Chip(275e12, 32 * GIB),
    "v5e": Chip(197e12, 16 * GIB),
    "v5p": Chip(459e12, 95 * GIB),
    "v6e": Chip(918e12, 32 * GIB),
    "a100": Chip(312e12, 40 * GIB),
    "h100": Chip(989e12, 80 * GIB),
}
_KIND = re.compile(rf"\b({'|'.join(CHIPS)}|v5lite)(pod)?\b", re.IGNORECASE)


def device_kind_of(name: str | None) -> str | None:
    """Returns the key of `CHIPS` in a device's name, or None.

    'v3-128' -> 'v3', 'v5litepod-8' -> 'v5e', 'NVIDIA H100 80GB HBM3' -> 'h100'.
    """
    found = _KIND.search(name or "")
    if found is None:
        return None
    return {"v5lite": "v5e"}.get(found[1].lower(), found[1].lower())


def peak_flops(n_replicas: int, device_kind: str) -> float:
    """Returns the peak bfloat16 FLOP/s of so many replicas.

    Raises:
      UserError: a kind of device whose peak is not known here.
    """
    if device_kind not in CHIPS:
        raise UserError(f"device_kind must be one of {', '.join(CHIPS)}, received {device_kind!r}.")
    return CHIPS[device_kind].peak_flops / CHIPS[device_kind].replicas * n_replicas
