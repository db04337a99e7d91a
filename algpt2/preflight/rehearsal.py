"""`--rehearse`: the step of a run, compiled for a TPU pod that is not there. Does it fit, and how fast could it be?"""

import dataclasses
import math
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from absl import logging

from algpt2 import cli
from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.devices import wheels
from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import TPU_KINDS, Pod, pod_named, roofline
from algpt2.errors import UserError
from algpt2.model.sizes import mfu
from algpt2.preflight import tpu_compiler
from algpt2.preflight.batch_search import Trial, largest_fitting
from algpt2.preflight.memory_estimate import FLOAT32_BYTES, optimizer_state_bytes
from algpt2.preflight.tpu_compiler import Compiled
from algpt2.processes import in_own_process

# The figures of a rehearsal that are no measurement, and how each of them comes about.
ESTIMATES = {
    "peak_hbm_bytes": "the compiler's, of the step without its all-reduce; where the step does not fit, at least",
    "optimizer_state_bytes": "by arithmetic; with shard_optimizer_state, one replica's part",
    "flops": "the compiler's cost analysis, loops included; element-wise work counts as matrix products do",
    "hbm_bytes_moved": "counted in the compiled program, each part of an operand once: it moves at least these",
    "on_chip_bytes_moved": "counted in the same way; they cost no memory bandwidth and enter no time here",
    "all_reduce_seconds": "float32 gradients, and what is shared out, over all of a chip's links at their full rate: "
    "it takes no less",
    "roofline_seconds": "compute and memory overlap perfectly at the maker's peak rates, the all-reduce with neither",
    "mfu_at_roofline": "model FLOPs in roofline_seconds; they count the masked half of attention, so it may pass 100%",
    "tokens_per_second_at_roofline": "the global batch in roofline_seconds",
    "hours_at_roofline": "all steps in roofline_seconds; no input, validation or checkpoints",
}


@dataclasses.dataclass(frozen=True)
class SpeedAtRoofline:
    """How fast a run would be if each part of a step ran at the maker's peak rate. All of it is an estimate.

    Attributes:
      compute_seconds: the arithmetic of one step.
      memory_seconds: the traffic of one step between a replica and its memory.
      roofline_seconds: one step, its all-reduce included.
      mfu_at_roofline: the model FLOPs of a step over those that the pod could do in that time.
      tokens_per_second_at_roofline: of the whole pod.
      hours_at_roofline: all steps of the run.
    """

    compute_seconds: float
    memory_seconds: float
    roofline_seconds: float
    mfu_at_roofline: float
    tokens_per_second_at_roofline: float
    hours_at_roofline: float


@dataclasses.dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found. FLOPs and bytes are those of one replica's step, None where it does not fit.

    `largest_batch_per_core` is that of one replica and step, with the run's accumulation; 0 if none was found to fit,
    and None if none was searched for. `too_large_batch_per_core` is the smallest that was found not to fit, None if all
    that were tried fit. `uncounted_loops` is how many loops count as one round because their rounds are unknown.
    """

    pod: str
    replicas: int
    batch_per_core: int
    accumulation_steps: int
    compute_dtype: str
    libtpu: str
    peak_hbm_bytes: int
    hbm_bytes: int
    optimizer_state_bytes: int
    fits: bool
    largest_batch_per_core: int | None
    too_large_batch_per_core: int | None
    flops: float | None
    hbm_bytes_moved: float | None
    on_chip_bytes_moved: float | None
    uncounted_loops: int
    all_reduce_seconds: float
    link_bytes_per_second: float
    speed: SpeedAtRoofline | None

    def figures(self) -> dict[str, Any]:
        """Returns all of it as one flat object of JSON values; those of the speed are None where there is none."""
        names = [field.name for field in dataclasses.fields(SpeedAtRoofline)]
        found = dataclasses.asdict(self)
        speed = found.pop("speed") or dict.fromkeys(names)
        return {**found, **speed, "estimates": ESTIMATES}


class Rehearser:
    """Compiles the steps of one run for one pod."""

    def __init__(self, model_config: GPTConfig, train_config: TrainConfig, pod: Pod):
        self.model_config = model_config
        self.train_config = train_config
        self.pod = pod
        self.micro_batch_size = train_config.micro_batch_size(pod.n_replicas)
        self.gradient_bytes = FLOAT32_BYTES * model_config.parameter_count()
        self.state_bytes = optimizer_state_bytes(model_config, train_config, pod.n_replicas)
        # What is shared out is exchanged by a sum like that of the gradients, and is as large.
        is_shared_out = train_config.shard_optimizer_state and pod.n_replicas > 1
        self.reduced_bytes = self.gradient_bytes * (2 if is_shared_out else 1)

    def rehearse(self, search: bool = True) -> Rehearsal:
        """Compiles the run's own batch and, with `search`, others, for the largest that fits."""
        compiled = self.compile(self.micro_batch_size)
        largest, too_large = self._largest(compiled) if search else (None, None)
        return self._rehearsal(compiled, largest, too_large)

    def compile(self, micro_batch_size: int) -> Compiled:
        """Returns what the compiler says of the step with so many sequences in one replica's micro-batch."""
        start = time.monotonic()
        config = config_of_one_replica(self.train_config, self.pod, micro_batch_size)
        program = self._exported(config)
        logging.info("batch %d of a core: exported in %.0f s", config.batch_size, time.monotonic() - start)
        compiled = tpu_compiler.compile_for_tpu(program, self.pod.kind)
        taken, verdict = time.monotonic() - start, "fits" if compiled.fits else "does not fit"
        peak = compiled.peak_hbm_bytes / GIB
        logging.info("batch %d: compiled after %.0f s, %.2f GiB, %s", config.batch_size, taken, peak, verdict)
        return compiled

    def _exported(self, config: TrainConfig) -> bytes:
        """Returns the program, made by another process, because TensorFlow keeps what it made for a step."""
        try:
            return in_own_process(export_step, self.model_config, config, self.pod.n_replicas)
        except BrokenProcessPool as error:
            raise UserError(
                "a rehearsal needs memory on this machine, up to 8 GB for a model of GPT-2's size, and the "
                "process that exports the step was ended, as the system does where memory is short: rehearse on a "
                "machine with more, or with less beside it."
            ) from error

    def _largest(self, compiled: Compiled) -> tuple[int, int | None]:
        """Returns the largest batch of a core that fits and the smallest that does not, as `largest_fitting` does."""

        def compile_batch(micro_batch_size: int) -> Trial:
            return trial_of(micro_batch_size, self.compile(micro_batch_size))

        fixed_bytes = self.gradient_bytes + self.state_bytes
        first = trial_of(self.micro_batch_size, compiled)
        largest, too_large = largest_fitting(compile_batch, first, fixed_bytes, self.pod.replica_hbm_bytes)
        accumulation_steps = self.train_config.accumulation_steps
        return largest * accumulation_steps, too_large and too_large * accumulation_steps

    def _rehearsal(self, compiled: Compiled, largest: int | None, too_large: int | None) -> Rehearsal:
        config, pod = self.train_config, self.pod
        return Rehearsal(
            pod=pod.name,
            replicas=pod.n_replicas,
            batch_per_core=self.micro_batch_size * config.accumulation_steps,
            accumulation_steps=config.accumulation_steps,
            compute_dtype=config.compute_dtype,
            libtpu=tpu_compiler.compiler_version(),
            peak_hbm_bytes=compiled.peak_hbm_bytes,
            hbm_bytes=pod.replica_hbm_bytes,
            optimizer_state_bytes=self.state_bytes,
            fits=compiled.fits,
            largest_batch_per_core=largest,
            too_large_batch_per_core=too_large,
            flops=compiled.flops,
            hbm_bytes_moved=compiled.hbm_bytes_moved,
            on_chip_bytes_moved=compiled.on_chip_bytes_moved,
            uncounted_loops=compiled.uncounted_loops,
            all_reduce_seconds=pod.all_reduce_seconds(self.reduced_bytes),
            link_bytes_per_second=TPU_KINDS[pod.kind].link_bandwidth,
            speed=self._speed(compiled) if compiled.fits else None,
        )

    def _speed(self, compiled: Compiled) -> SpeedAtRoofline:
        pod, config = self.pod, self.train_config
        parts = roofline(pod, compiled.flops, compiled.hbm_bytes_moved, self.reduced_bytes)
        tokens = config.batch_size * self.model_config.seq_len
        tokens_per_second = tokens / parts.seconds
        return SpeedAtRoofline(
            compute_seconds=parts.compute_seconds,
            memory_seconds=parts.memory_seconds,
            roofline_seconds=parts.seconds,
            mfu_at_roofline=mfu(self.model_config, tokens_per_second, pod.n_replicas, pod.kind),
            tokens_per_second_at_roofline=tokens_per_second,
            hours_at_roofline=config.total_steps * parts.seconds / 3600,
        )


def export_step(model_config: GPTConfig, config: TrainConfig, n_replicas: int) -> bytes:
    """Loads TensorFlow and returns the program of a step, see `step_export.export_training_step`."""
    wheels.load_tensorflow()
    from algpt2.preflight.step_export import export_training_step

    return export_training_step(model_config, config, n_replicas)


def trial_of(batch: int, compiled: Compiled) -> Trial:
    """Returns what the search for the largest batch needs of a compiled step."""
    return Trial(batch, compiled.peak_hbm_bytes, compiled.fits)


def config_of_one_replica(config: TrainConfig, pod: Pod, micro_batch_size: int) -> TrainConfig:
    """Returns the configuration with which one replica alone runs the step that each runs on the pod.

    `jit_compile` is off, because XLA compiles the whole step for a TPU, and not parts of it as on a CPU. The steps grow
    as the batch shrinks, so that the run keeps at least its tokens and a warm-up given in tokens still fits it.
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
      UserError: no such pod, a batch that does not divide, JAX or libtpu missing, a step that no TPU can run, or too
        little memory for the process that exports it.
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
        ("optimizer state of a core", f"{found.optimizer_state_bytes / GIB:.2f} GiB"),
    ]
    if found.largest_batch_per_core is not None:
        lines.append(("largest batch of a core", f"{found.largest_batch_per_core} ({larger})"))
    return lines + (_lines_of_speed(found, found.speed) if found.speed else [])


def _lines_of_speed(found: Rehearsal, speed: SpeedAtRoofline) -> list[tuple[str, str]]:
    arithmetic = f"{found.flops / 1e12:.3f} TFLOP, {speed.compute_seconds * 1e3:.2f} ms at the peak rate"
    memory = f"at least {found.hbm_bytes_moved / 1e9:.2f} GB, {speed.memory_seconds * 1e3:.2f} ms at the peak rate"
    reduction = f"{found.all_reduce_seconds * 1e3:.2f} ms at {found.link_bytes_per_second / 1e9:.0f} GB/s a chip"
    utilisation = (
        f"{speed.mfu_at_roofline:.1%}; may pass 100%, as it counts the masked half of attention, which the step omits"
    )
    lines = [
        ("arithmetic", arithmetic),
        ("memory traffic", memory),
        ("traffic on the chip", f"at least {found.on_chip_bytes_moved / 1e9:.2f} GB, in no time below"),
        ("all-reduce", reduction),
        ("step at the roofline", f"{speed.roofline_seconds * 1e3:.2f} ms (an estimate, as is all that follows)"),
        ("MFU at the roofline", utilisation),
        ("tokens/s at the roofline", f"{speed.tokens_per_second_at_roofline:,.0f}"),
        ("all steps at the roofline", f"{speed.hours_at_roofline:.2f} h"),
    ]
    if found.uncounted_loops:
        uncounted = f"{found.uncounted_loops}: their rounds are unknown, so arithmetic and traffic are too low"
        lines.append(("loops counted once", uncounted))
    return lines
