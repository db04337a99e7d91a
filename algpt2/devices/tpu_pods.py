"""TPU pods by the names that Cloud TPU gives them, and what one replica of each has at its disposal."""

import dataclasses
import re

from algpt2.devices.chips import CHIPS
from algpt2.errors import UserError


@dataclasses.dataclass(frozen=True)
class TpuKind:
    """What a generation of TPU has besides what `chips.CHIPS` says of it.

    Attributes:
      topology: libtpu's name for a small slice of it.
      names_count_chips: whether the number in a pod's name counts chips; otherwise it counts cores.
      largest_number: the largest number in a pod's name.
      memory_bandwidth: bytes per second between a chip and its memory.
      link_bandwidth: bytes per second that a chip sends over all its links to other chips together.
      cores: of a chip.
      chip_config: libtpu's name for the way in which the cores of a chip are joined to one device, if they are.
    """

    topology: str
    names_count_chips: bool
    largest_number: int
    memory_bandwidth: float
    link_bandwidth: float
    cores: int = 1
    chip_config: str | None = None


# Sources.
# - Memory of v2, v3 and v4: cloud.google.com/tpu/docs/{v2,v3,v4}.
# - Memory and links of v5e, v5p and v6e: docs.cloud.google.com/tpu/docs/{v5e,v5p,v6e}. They give the links' rate in
#   both directions together; half of it counts here.
# - Links of v2 and v3, four of 496 and of 656 Gbit/s: Jouppi et al. 2020, doi.org/10.1145/3360307.
# - Links of v4, six of 50 GB/s: arXiv:2304.01433.
# Google's pages also give the all-reduce bandwidth of whole pods, which agrees: 340 TB/s over 1024 v3 chips is 332 GB/s
# for each, where this table has 328, and 1.1 PB/s over 4096 v4 chips is 269, where it has 300.
# "megacore" makes the two cores of a chip one device, which is how TensorFlow counts v4 and v5p:
# AI-Hypercomputer/maxtext, accelerator_to_spec_map.py.
TPU_KINDS = {
    "v2": TpuKind("v2:2x2", False, 512, 700e9, 4 * 62e9, cores=2),
    "v3": TpuKind("v3:2x2", False, 2048, 900e9, 4 * 82e9, cores=2),
    "v4": TpuKind("v4:2x2x1", False, 8192, 1200e9, 6 * 50e9, cores=2, chip_config="megacore"),
    "v5e": TpuKind("v5e:2x2", True, 256, 819e9, 200e9),
    "v5p": TpuKind("v5p:2x2x1", False, 12288, 2765e9, 600e9, cores=2, chip_config="megacore"),
    "v6e": TpuKind("v6e:2x2", True, 256, 1638e9, 400e9),
}
_NAME = re.compile(rf"({'|'.join(TPU_KINDS)}|v5litepod)-([1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Pod:
    """A pod, or a slice of one. Replicas are as TensorFlow counts them: cores of v2 and v3, chips of later kinds."""

    name: str
    kind: str
    n_chips: int

    @property
    def n_replicas(self) -> int:
        """The replicas of a strategy on the whole pod."""
        return self.n_chips * CHIPS[self.kind].replicas

    @property
    def replica_flops(self) -> float:
        """Peak bfloat16 FLOP/s of one replica."""
        return CHIPS[self.kind].peak_flops / CHIPS[self.kind].replicas

    @property
    def replica_hbm_bytes(self) -> int:
        """Memory of one replica."""
        return CHIPS[self.kind].memory_bytes // CHIPS[self.kind].replicas

    @property
    def replica_memory_bandwidth(self) -> float:
        """Bytes per second between one replica and its memory."""
        return TPU_KINDS[self.kind].memory_bandwidth / CHIPS[self.kind].replicas

    def all_reduce_seconds(self, n_bytes: float) -> float:
        """Returns a lower bound of the time in which all replicas get the sum of `n_bytes` that each of them holds.

        2 (n - 1) / n of the bytes leave each of n chips (a ring's reduce-scatter and all-gather), over all of its links
        at their full rate. What the two cores of a chip exchange is left out.
        """
        return 2 * (self.n_chips - 1) / self.n_chips * n_bytes / TPU_KINDS[self.kind].link_bandwidth


def pod_named(name: str) -> Pod:
    """Returns the pod of a Cloud TPU accelerator type: 'v3-128' is 64 chips of two cores, 'v5litepod-8' 8 chips.

    Raises:
      UserError: no such type.
    """
    found = _NAME.fullmatch(name)
    if found:
        kind = {"v5litepod": "v5e"}.get(found[1], found[1])
        number, known = int(found[2]), TPU_KINDS[kind]
        n_chips, rest = (number, 0) if known.names_count_chips else divmod(number, known.cores)
        if not rest and number <= known.largest_number:
            return Pod(name, kind, n_chips)
    raise UserError(
        f"a pod must be one of {_every_name()}, whose number counts chips for v5e and v6e, and cores, two a chip, for "
        f"the others; received {name!r}."
    )


def _every_name() -> str:
    listed = ", ".join(f"{kind}-N (N up to {known.largest_number})" for kind, known in TPU_KINDS.items())
    return listed.replace("v5e-N", "v5litepod-N or v5e-N")


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Times of a step's parts at the makers' peak rates (Williams et al. 2009, doi.org/10.1145/1498765.1498785)."""

    compute_seconds: float
    memory_seconds: float
    all_reduce_seconds: float

    @property
    def seconds(self) -> float:
        """The whole step, if arithmetic and memory traffic overlap perfectly, and the all-reduce with neither."""
        return max(self.compute_seconds, self.memory_seconds) + self.all_reduce_seconds


def roofline(pod: Pod, flops: float, hbm_bytes_moved: float, reduced_bytes: float) -> Roofline:
    """Returns the roofline of a step in which all replicas of a pod do the same.

    Args:
      pod: where it runs.
      flops: of one replica.
      hbm_bytes_moved: what one replica reads and writes in its memory.
      reduced_bytes: what each replica brings to the all-reduce.
    """
    return Roofline(
        flops / pod.replica_flops,
        hbm_bytes_moved / pod.replica_memory_bandwidth,
        pod.all_reduce_seconds(reduced_bytes),
    )
