"""The least time that a step can take on a pod: its arithmetic, its memory traffic, its all-reduce."""

import dataclasses

from algpt2.tpu_pods import Pod


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Lower bounds of parts of a step, in seconds (Williams et al. 2009, doi.org/10.1145/1498765.1498785).

    Arithmetic and memory traffic are taken to overlap perfectly, the all-reduce with neither.
    """

    compute_seconds: float
    memory_seconds: float
    all_reduce_seconds: float

    @property
    def seconds(self) -> float:
        """The whole step."""
        return max(self.compute_seconds, self.memory_seconds) + self.all_reduce_seconds

    @property
    def bound_by(self) -> str:
        """Which of arithmetic and memory traffic takes longer."""
        return "compute" if self.compute_seconds >= self.memory_seconds else "memory"


def roofline(pod: Pod, flops: float, bytes_accessed: float, reduced_bytes: float) -> Roofline:
    """Returns the roofline of a step in which each replica of a pod does so many FLOPs and accesses so many bytes.

    Args:
      pod: where it runs.
      flops: of one replica.
      bytes_accessed: between one replica and its memory.
      reduced_bytes: what each replica brings to the all-reduce.
    """
    return Roofline(
        flops / pod.replica_flops,
        bytes_accessed / pod.replica_memory_bandwidth,
        pod.all_reduce_seconds(reduced_bytes),
    )
