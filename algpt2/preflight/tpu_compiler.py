"""A StableHLO program through the TPU's compiler, on a machine without a TPU.

libtpu compiles for a TPU that is only named. It does so in a process of its own, which runs this module: libtpu and
TensorFlow do not share a process well, and libtpu may abort it. No JAX backend is initialised, because that would look
for a TPU.
"""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import Any

from algpt2.devices.tpu_pods import TPU_KINDS
from algpt2.errors import UserError
from algpt2.preflight import hlo_text
from algpt2.preflight.hbm_traffic import traffic_of
from algpt2.preflight.hlo_loops import flops_as_entry, flops_with_every_round

INSTALL = "pip install -c constraints.txt -e '.[cpu,rehearsal]'"
OLDEST_JAX = (0, 10)
# Without TPU_SKIP_MDS_QUERY libtpu waits for Google Cloud's metadata server, which is not there. Without
# ALLOW_MULTIPLE_LIBTPU_LOAD it refuses to work beside another process that uses it, though neither has a TPU.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
    "TPU_ACCELERATOR_TYPE": "v3-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "JAX_PLATFORMS": "cpu",
}
_OUT_OF_MEMORY = re.compile(r"Used ([\d.]+)([KMGT]) of [\d.]+[KMGT] hbm")
_ALLOCATION_TOO_LARGE = re.compile(r"Allocation \(size=(\d+)\) would exceed memory \(size=(\d+)\)")
_UNIT = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler makes of a program.

    A program that needs more memory than there is has a peak and nothing else, and the peak is then at least what the
    compiler says.

    Attributes:
      peak_hbm_bytes: memory at the worst moment.
      fits: whether the compiler found room for it.
      argument_bytes: what stays in memory between steps.
      flops: those of the compiler's cost analysis, corrected for loops: multiply-adds count twice.
      hbm_bytes_moved: what the program reads and writes in the core's memory, at least (`hbm_traffic`).
      on_chip_bytes_moved: what it reads and writes in the memories on the chip, at least.
      uncounted_loops: loops that the three figures above count as one round, because the text does not tell how often
        they run.
    """

    peak_hbm_bytes: int
    fits: bool
    argument_bytes: int | None = None
    flops: float | None = None
    hbm_bytes_moved: float | None = None
    on_chip_bytes_moved: float | None = None
    uncounted_loops: int = 0


def require_compiler() -> None:
    """Raises `UserError` where libtpu is missing, or a JAX that reports a program's peak memory."""
    if missing := [name for name in ("jax", "libtpu") if util.find_spec(name) is None]:
        raise UserError(f"a rehearsal needs {' and '.join(missing)}, which is not installed: run `{INSTALL}`.")
    version = metadata.version("jax")
    if tuple(map(int, version.split(".")[:2])) < OLDEST_JAX:
        raise UserError(
            f"a rehearsal needs jax 0.10 or newer, and so Python 3.11 or newer, found jax {version}: run `{INSTALL}` "
            "in an environment of such a Python."
        )


def compiler_version() -> str:
    """Returns the installed libtpu's version."""
    return metadata.version("libtpu")


def compile_for_tpu(program: bytes, kind: str) -> Compiled:
    """Returns what libtpu says of a program compiled for one device of a kind (a key of `TPU_KINDS`).

    Raises:
      UserError: JAX or libtpu is missing, or the compiler refuses the program.
    """
    require_compiler()
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "step.mlirbc"), Path(folder, "compiled.json")
        source.write_bytes(program)
        command = [sys.executable, "-m", "algpt2.preflight.tpu_compiler", str(source), kind, str(result)]
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": path}
        process = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
        if result.exists():
            return Compiled(**json.loads(result.read_text()))
    return too_large(process.stderr) or _raise_refusal(kind, process)


def too_large(message: str) -> Compiled | None:
    """Returns what the compiler's message says of a program for which memory does not suffice, None if it is another.

    The compiler has two such messages. One tells the memory of the whole program, the other only of one allocation.
    """
    if found := _OUT_OF_MEMORY.search(message):
        return Compiled(round(float(found[1]) * _UNIT[found[2]]), fits=False)
    if found := _ALLOCATION_TOO_LARGE.search(message):
        return Compiled(max(int(found[1]), int(found[2])), fits=False)
    return None


def _raise_refusal(kind: str, process: subprocess.CompletedProcess) -> Any:
    lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
    raise UserError(
        f"the step must compile for a TPU, and libtpu {compiler_version()} refuses it for {kind} ({lines[-1][:300]}): "
        "report it with the command that you ran."
    )


def main(source: str, kind: str, result: str) -> None:
    """Compiles a file's program for a kind of TPU and writes a `Compiled` as JSON."""
    compiled = _costs(_compile(Path(source).read_bytes(), kind))
    Path(result).write_text(json.dumps(dataclasses.asdict(compiled)))


def _costs(executable: Any) -> Compiled:
    memory = executable.get_compiled_memory_stats()
    text = executable.hlo_modules()[0].to_string()
    program = hlo_text.parse(text)
    moved = traffic_of(program)
    return Compiled(
        peak_hbm_bytes=memory.peak_memory_in_bytes,
        fits=True,
        argument_bytes=memory.argument_size_in_bytes,
        flops=flops_with_every_round(program, functools.partial(flops_as_entry, text)),
        hbm_bytes_moved=moved.hbm_bytes,
        on_chip_bytes_moved=moved.on_chip_bytes,
        uncounted_loops=sum(rounds is None for rounds in program.rounds.values()),
    )


def _compile(program: bytes, kind: str) -> Any:
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax.experimental import topologies
    from jaxlib.mlir import ir

    known = TPU_KINDS[kind]
    joined = {"chip_config_name": known.chip_config} if known.chip_config else {}
    device = topologies.get_topology_desc(known.topology, platform="tpu", **joined).devices[0]
    with mlir.make_ir_context():
        module = ir.Module.parse(program)
        remove_copies(module, ir)
        options = xla_client.CompileOptions()
        options.num_replicas = options.num_partitions = 1
        return device.client.compile(module, xla_client.DeviceList((device,)), options)


def remove_copies(module: Any, ir: Any) -> None:
    """Removes the operations with which TensorFlow's exporter copies each result, and which libtpu does not know."""
    copies = []

    def collect(operation: Any) -> Any:
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()


if __name__ == "__main__":
    main(*sys.argv[1:])
