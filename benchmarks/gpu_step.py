"""Time our exported step under JAX against PyTorch's compiled one, in turn, on one GPU of a machine without TensorFlow.

First, where TensorFlow is: --export step.mlirbc. Then, where the GPU is, with JAX and PyTorch: --program step.mlirbc.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from algpt2 import cli, storage
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import load_config
from algpt2.devices.chips import device_kind_of
from algpt2.model.sizes import mfu

Train = Callable[[int], float]


def main(argv: Sequence[str]) -> int:
    """Writes the program, or prints tokens per second and utilisation of both, and the ratio as the median of pairs."""
    arguments = parse(argv)
    config = dataclasses.replace(load_config(arguments.config_path), dropout=0.0)
    if arguments.export:
        _export(config, arguments.batch_size, arguments.export)
        return cli.EXIT_OK
    program = storage.read_bytes(arguments.program)
    contenders = {"ours": _ours(program, config.vocab_size), "torch_compile": _torch(config, arguments.batch_size)}
    for train in contenders.values():
        train(3)
    turns = [
        [train(arguments.steps) / arguments.steps for train in contenders.values()] for _ in range(arguments.rounds)
    ]
    cli.print_json(_figures(config, arguments.batch_size, list(contenders), turns))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--export", metavar="FILE", help="write our step as StableHLO, and stop; needs TensorFlow")
    what.add_argument("--program", metavar="FILE", help="time this program of --export; needs JAX and PyTorch")
    parser.add_argument("--config_path", default="gpt2", help="a preset or a config file; dropout is off")
    parser.add_argument("--batch_size", type=int, default=8, help="sequences of a step (default: 8)")
    parser.add_argument("--steps", type=int, default=20, help="steps of one turn (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    return parser


def _export(config: GPTConfig, batch_size: int, path: str) -> None:
    from algpt2.config.training import TrainConfig
    from algpt2.preflight.step_export import export_training_step

    train_config = TrainConfig(
        total_steps=10**6, batch_size=batch_size, learning_rate=1e-4, compute_dtype="bfloat16", jit_compile=False
    )
    storage.write_bytes(path, export_training_step(config, train_config))


def _ours(program: bytes, vocab_size: int) -> Train:
    """Returns the exported step on JAX's first device. Each step gets the state that the one before it returned.

    The first state is made up, because only the time counts.
    """
    import jax
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jaxlib.mlir import ir

    from algpt2.preflight.tpu_compiler import remove_copies

    jax.config.update("jax_enable_x64", True)  # the update count is int64
    device = jax.devices()[0]
    with mlir.make_ir_context():
        module = ir.Module.parse(program)
        remove_copies(module, ir)
        main_function = next(one for one in module.body.operations if one.name.value == "main")
        shapes = [(tuple(one.shape), str(one.element_type)) for one in main_function.type.inputs]
        n_results = len(main_function.type.results)
        device_list = xla_client.DeviceList((device,))
        executable = device.client.compile_and_load(module, device_list, xla_client.CompileOptions())
    rng = np.random.default_rng(0)
    values = [jax.device_put(_made_up(*shape, rng, vocab_size), device) for shape in shapes]
    n_inputs = sum(shape[1] != "f32" or 0 in shape[0] for shape in shapes[:3])
    n_figures = n_results - (len(values) - n_inputs)

    def train(n_steps: int) -> float:
        start = time.perf_counter()
        for _ in range(n_steps):
            results = executable.execute(values)
            values[n_inputs:] = results[n_figures:]
        results[0].block_until_ready()
        return time.perf_counter() - start

    return train


def _made_up(shape: tuple[int, ...], dtype: str, rng: np.random.Generator, vocab_size: int) -> np.ndarray:
    if dtype == "f32":
        return (1e-2 * rng.random(shape)).astype(np.float32)
    is_records = len(shape) == 2
    whole = rng.integers(vocab_size if is_records else 1, size=shape)
    return whole.astype({"i32": np.int32, "i64": np.int64, "ui32": np.uint32}[dtype])


def _torch(config: GPTConfig, batch_size: int) -> Train:
    """Returns the step of a nanoGPT-style model: `torch.compile`, bfloat16 autocast, PyTorch's flash attention."""
    import torch

    from benchmarks.torch_gpt import TorchGPT

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = TorchGPT(config).to(device)
    forward = torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1, fused=True)
    rows = torch.randint(config.vocab_size, (batch_size, config.seq_len + 1), device=device)
    inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def train(n_steps: int) -> float:
        start = time.perf_counter()
        for _ in range(n_steps):
            with torch.autocast(device, torch.bfloat16):
                loss = forward(inputs, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        loss.item()
        return time.perf_counter() - start

    return train


def _figures(config: GPTConfig, batch_size: int, names: list[str], turns: list[list[float]]) -> dict[str, object]:
    import jax

    device = jax.devices()[0].device_kind
    kind, tokens = device_kind_of(device), batch_size * config.seq_len
    rows = []
    for i, name in enumerate(names):
        speed = tokens / statistics.median(turn[i] for turn in turns)
        rows.append(
            {
                "contender": name,
                "tokens_per_second": speed,
                "mfu": mfu(config, speed, 1, kind) if kind else None,
                "first_is_faster_by": statistics.median(turn[i] / turn[0] for turn in turns),
            }
        )
    return {"device": device, "shape": f"{batch_size} x {config.seq_len}", "rows": rows}


if __name__ == "__main__":
    cli.run(main)
