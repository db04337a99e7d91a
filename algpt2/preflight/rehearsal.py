"""`--rehearse`: the very step of a run, compiled for a TPU pod that is not there: does it fit, how fast can it be."""

import dataclasses
import math
import sys
import time
from typing import Any

from absl import logging

from algpt2 import cli
from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import TPU_KINDS, Pod, pod_named, roofline
from algpt2.model.sizes import training_flops_per_token
from algpt2.preflight import tpu_compiler
from algpt2.preflight.batch_search import largest_fitting
from algpt2.preflight.memory_estimate import FLOAT32_BYTES, optimizer_state_bytes
from algpt2.preflight.tpu_compiler import Compiled

# What of a rehearsal is no measurement; each entry says in what way.
ESTIMATES = {
    "peak_hbm_bytes": "the compiler's, of the step without its all-reduce; at least, where the step does not fit",
    "bytes_accessed": "the compiler's count of all operands and results, those that stay on the chip too: from above",
    "roofline_seconds": "compute and memory overlap perfectly at the maker's peak rates, the all-reduce with neither",
    "all_reduce_seconds": "float32 gradients over all of a chip's links at their full rate: from below",
    "mfu_bound": "model FLOPs, with the masked half of attention that the step leaves out, over those of the peak rate",
    "tokens_per_second_bound": "the global batch in roofline_seconds",
    "hours": "all steps in roofline_seconds; no input, validation, checkpoints",
}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What no run can beat: times of one step, of its parts, of all steps, and what they amount to."""

    compute_seconds: float
    memory_seconds: float
    roofline_seconds: float
    mfu_bound: float
    tokens_per_second_bound: float
    hours: float


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found. FLOPs and bytes are those of one replica's step, None where it does not fit.

    `largest_batch_per_core` is that of one replica and step, with the run's accumulation; 0 if none was found to fit,
    and `too_large_batch_per_core` is the smallest found not to, None if all that were tried fit.
    """

    pod: str
    replicas: int
    batch_per_core: int
    accumulation_steps: int
    compute_dtype: str
    libtpu: str
    peak_hbm_bytes: int
    hbm_bytes: int
    fits: bool
    largest_batch_per_core: int | None
    too_large_batch_per_core: int | None
    flops: float | None
    bytes_accessed: float | None
    uncounted_loops: int
    all_reduce_seconds: float
    link_bytes_per_second: float
    bounds: Bounds | None

    def figures(self) -> dict[str, Any]:
        """Returns all of it as plain JSON values, the bounds, None where there are none, beside the rest."""
        names = [field.name for field in dataclasses.fields(Bounds)]
        found = dataclasses.asdict(self)
        bounds = found.pop("bounds") or dict.fromkeys(names)
        return {**found, **bounds, "estimates": ESTIMATES}


class Rehearser:
    """Compiles the steps of one run for one pod."""

    def __init__(self, model_config: GPTConfig, train_config: TrainConfig, pod: Pod):
        self.model_config = model_config
        self.train_config = train_config
        self.pod = pod
        self.micro_batch_size = train_config.micro_batch_size(pod.n_replicas)

    def rehearse(self, search: bool = True) -> Rehearsal:
        """Compiles the run's own batch and, with `search`, others, for the largest that fits."""
        compiled = self.compile(self.micro_batch_size)
        largest, too_large = self._largest(compiled) if search else (None, None)
        return self._rehearsal(compiled, largest, too_large)

    def compile(self, micro_batch_size: int) -> Compiled:
        """Returns what the compiler says of the step with so many sequences in one replica's micro-batch."""
        from algpt2.preflight.step_export import export_training_step  # imports TensorFlow

        start = time.monotonic()
        config = config_of_one_replica(self.train_config, self.pod, micro_batch_size)
        program = export_training_step(self.model_config, config)
        logging.info("batch %d of a core: exported in %.0f s", config.batch_size, time.monotonic() - start)
        compiled = tpu_compiler.compile_for_tpu(program, self.pod.kind)
        taken, verdict = time.monotonic() - start, "fits" if compiled.fits else "does not fit"
        peak = compiled.peak_hbm_bytes / GIB
        logging.info("batch %d: compiled after %.0f s, %.2f GiB, %s", config.batch_size, taken, peak, verdict)
        return compiled

    def _largest(self, compiled: Compiled) -> tuple[int, int | None]:
        def peak_of(micro_batch_size: int) -> tuple[int, bool]:
            tried = self.compile(micro_batch_size)
            return tried.peak_hbm_bytes, tried.fits

        fixed = FLOAT32_BYTES * self.model_config.parameter_count()
        fixed += optimizer_state_bytes(self.model_config, self.train_config)
        largest, too_large = largest_fitting(
            peak_of,
            self.micro_batch_size,
            compiled.peak_hbm_bytes,
            compiled.fits,
            fixed,
            self.pod.replica_hbm_bytes,
        )
        accumulation_steps = self.train_config.accumulation_steps
        return largest * accumulation_steps, too_large and too_large * accumulation_steps

    def _rehearsal(self, compiled: Compiled, largest: int | None, too_large: int | None) -> Rehearsal:
        config, pod = self.train_config, self.pod
        gradient_bytes = FLOAT32_BYTES * self.model_config.parameter_count()
        return Rehearsal(
            pod=pod.name,
            replicas=pod.n_replicas,
            batch_per_core=self.micro_batch_size * config.accumulation_steps,
            accumulation_steps=config.accumulation_steps,
            compute_dtype=config.compute_dtype,
            libtpu=tpu_compiler.compiler_version(),
            peak_hbm_bytes=compiled.peak_hbm_bytes,
            hbm_bytes=pod.replica_hbm_bytes,
            fits=compiled.fits,
            largest_batch_per_core=largest,
            too_large_batch_per_core=too_large,
            flops=compiled.flops,
            bytes_accessed=compiled.bytes_accessed,
            uncounted_loops=compiled.uncounted_loops,
            all_reduce_seconds=pod.all_reduce_seconds(gradient_bytes),
            link_bytes_per_second=TPU_KINDS[pod.kind].link_bandwidth,
            bounds=self._bounds(compiled, gradient_bytes),
        )

    def _bounds(self, compiled: Compiled, gradient_bytes: int) -> Bounds | None:
        if compiled.flops is None:
            return None
        pod, config = self.pod, self.train_config
        parts = roofline(pod, compiled.flops, compiled.bytes_accessed, gradient_bytes)
        tokens = config.batch_size * self.model_config.seq_len
        model_seconds = tokens * training_flops_per_token(self.model_config) / (pod.n_replicas * pod.replica_flops)
        return Bounds(
            compute_seconds=parts.compute_seconds,
            memory_seconds=parts.memory_seconds,
            roofline_seconds=parts.seconds,
            mfu_bound=model_seconds / parts.seconds,
            tokens_per_second_bound=tokens / parts.seconds,
            hours=config.total_steps * parts.seconds / 3600,
        )


def config_of_one_replica(config: TrainConfig, pod: Pod, micro_batch_size: int) -> TrainConfig:
    """Returns the configuration with which one replica alone runs the step that each runs on the pod.

    XLA compiles the whole step there, not parts of it as on a CPU. The run's tokens stay, or more, so that lengths
    given in tokens still fit it.
    """
    batch_size = micro_batch_size * config.accumulation_steps
    steps = math.ceil(config.total_steps * max(1, config.batch_size / batch_size))
    return dataclasses.replace(config, batch_size=batch_size, total_steps=steps, jit_compile=False)


def rehearse(model_config: GPTConfig, train_config: TrainConfig, pod_name: str, search: bool = True) -> Rehearsal:
    """Returns what one replica's step of a run comes to on a pod.

    Args:
      model_config: the run's model.
      train_config: the run's; its `batch_size` is that of the whole pod.
      pod_name: a Cloud TPU accelerator type, such as 'v3-128'.
      search: whether to look for the largest batch that fits, which takes a few compilations more.

    Raises:
      UserError: no such pod, a batch that does not divide, JAX or libtpu missing, or a step that no TPU can run.
    """
    pod = pod_named(pod_name)
    tpu_compiler.require_compiler()
    return Rehearser(model_config, train_config, pod).rehearse(search)


def report(rehearsal: Rehearsal) -> int:
    """Prints a table on stderr and JSON on stdout; returns the exit status, 2 if the step does not fit."""
    for name, figure in table_of(rehearsal):
        print(f"{name:<32} {figure}", file=sys.stderr)
    cli.print_json(rehearsal.figures())
    return cli.EXIT_OK if rehearsal.fits else cli.EXIT_USER_ERROR


def table_of(found: Rehearsal) -> list[tuple[str, str]]:
    """Returns name and figure, with its unit, of each line of the table."""
    verdict = "fits" if found.fits else "DOES NOT FIT: raise --accumulation_steps or lower --batch_size"
    too_large = found.too_large_batch_per_core
    larger = f"{too_large} does not fit" if too_large else "larger ones were not tried"
    batch = f"{found.batch_per_core} in {found.accumulation_steps} micro-batches, {found.compute_dtype}"
    lines = [
        ("pod", f"{found.pod}, {found.replicas} replicas, compiled by libtpu {found.libtpu}"),
        ("batch of a core", batch),
        ("peak memory of a core", f"{found.peak_hbm_bytes / GIB:.2f} of {found.hbm_bytes / GIB:.0f} GiB: {verdict}"),
    ]
    if found.largest_batch_per_core is not None:
        lines.append(("largest batch of a core", f"{found.largest_batch_per_core} ({larger})"))
    return lines + (_lines_of_bounds(found, found.bounds) if found.bounds else [])


def _lines_of_bounds(found: Rehearsal, bounds: Bounds) -> list[tuple[str, str]]:
    reduction = f"{found.all_reduce_seconds * 1e3:.2f} ms at {found.link_bytes_per_second / 1e9:.0f} GB/s a chip"
    lines = [
        ("arithmetic", f"{found.flops / 1e12:.3f} TFLOP, {bounds.compute_seconds * 1e3:.2f} ms at the peak"),
        ("memory traffic (estimate)", f"{found.bytes_accessed / 1e9:.2f} GB, {bounds.memory_seconds * 1e3:.2f} ms"),
        ("all-reduce (estimate)", reduction),
        ("step, at least (estimate)", f"{bounds.roofline_seconds * 1e3:.2f} ms"),
        ("MFU, at most (estimate)", f"{bounds.mfu_bound:.1%}"),
        ("tokens/s, at most (estimate)", f"{bounds.tokens_per_second_bound:,.0f}"),
        ("all steps, at least (estimate)", f"{bounds.hours:.2f} h"),
    ]
    if found.uncounted_loops:
        lines.append(("loops counted once", f"{found.uncounted_loops}: arithmetic and traffic are too low"))
    return lines
