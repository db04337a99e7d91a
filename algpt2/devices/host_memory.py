"""The memory of this machine: how much there is, and a sentence for those who ask for more."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from algpt2.errors import UserError

CGROUP = Path("/sys/fs/cgroup")


def host_memory_bytes(cgroup: Path = CGROUP) -> int | None:
    """Returns the bytes that this process can have at most, swap included; None where the system does not say.

    Args:
      cgroup: the folder with the limits of the container that this process is in, if it is in one.
    """
    try:
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return None
    swap = _swap_bytes()
    limit, swap_limit = _limit(cgroup / "memory.max"), _limit(cgroup / "memory.swap.max")
    return min(physical, limit or physical) + min(swap, swap if swap_limit is None else swap_limit)


@contextlib.contextmanager
def out_of_memory(remedy: str) -> Iterator[None]:
    """Raises `UserError` where the block runs out of memory, of this machine or of a device that TensorFlow drives.

    Args:
      remedy: what the user can do, as in "lower --batch_size".
    """
    import tensorflow as tf

    try:
        yield
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"model and batch must fit into memory, and they do not ({reason}): {remedy}.") from error


def _swap_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("SwapTotal:"))


def _limit(file: Path) -> int | None:
    """Returns the number of bytes in a file of a cgroup; None if it says "max" or is not there."""
    try:
        text = file.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
