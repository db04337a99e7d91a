"""Rehearse presets on TPU cores, and keras-hub's GPT-2 through the same compiler; write the table as Markdown."""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from algpt2 import cli, environment
from algpt2.config import preset, preset_names
from algpt2.errors import UserError
from algpt2.flops import CHIPS, GIB, training_flops_per_token
from algpt2.roofline import roofline
from algpt2.tpu_pods import TPU_KINDS, pod_named
from algpt2.train_config import TrainConfig

SEQ_LEN, VOCAB_SIZE = 1024, 50257
PEER = "keras-hub"
COLUMNS = ("model", "optimizer", "core", "peak GiB", "largest batch", "TFLOP", "GB", "roofline ms", "MFU at most")


def main(argv: Sequence[str]) -> int:
    """Prints every row as JSON and writes the table."""
    arguments = parse(argv)
    environment.require_tensorflow()
    rows = list(_rows(arguments))
    if arguments.output:
        Path(arguments.output).write_text(_document(rows, arguments), encoding="utf-8")
    cli.print_json(rows)
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--presets", nargs="*", default=preset_names(), choices=preset_names(), help="models")
    parser.add_argument("--kinds", nargs="+", default=["v3", "v5e", "v6e"], choices=list(TPU_KINDS), help="TPUs")
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "adafactor"], help="of every preset")
    parser.add_argument("--batch_size", type=int, default=4, help="sequences of a core and step (default: 4)")
    parser.add_argument("--search", action=argparse.BooleanOptionalAction, default=True, help="find the largest batch")
    parser.add_argument("--dropout", type=float, help="instead of each preset's own")
    parser.add_argument("--peer", nargs="*", default=[], choices=list(TPU_KINDS), help=f"{PEER}'s GPT-2 on these TPUs")
    parser.add_argument("--output", metavar="FILE", help="Markdown to write")
    return parser.parse_args(argv)


def _rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for kind in arguments.peer:
        yield _peer_row(kind, arguments.batch_size)
    for name in arguments.presets:
        for kind in arguments.kinds:
            for optimizer in arguments.optimizers:
                yield _own_row(name, kind, optimizer, arguments)


def _own_row(name: str, kind: str, optimizer: str, arguments: argparse.Namespace) -> dict[str, Any]:
    from algpt2.rehearsal import rehearse

    start = time.monotonic()
    config = preset(name)
    if arguments.dropout is not None:
        config = dataclasses.replace(config, dropout=arguments.dropout)
    pod = _one_chip(kind)
    train_config = TrainConfig(
        total_steps=1,
        batch_size=arguments.batch_size * pod.n_replicas,
        optimizer=optimizer,
        compute_dtype="bfloat16",
    )
    found = rehearse(config, train_config, pod.name, arguments.search).figures()
    chosen = ("peak_hbm_bytes", "fits", "largest_batch_per_core", "larger_does_not_fit", "flops", "bytes_accessed")
    row = {"model": name, "dropout": config.dropout, "optimizer": optimizer, "core": kind, "libtpu": found["libtpu"]}
    seconds = {"roofline_seconds": found["roofline_seconds"], "mfu_bound": found["mfu_bound"]}
    return _logged({**row, **{key: found[key] for key in chosen}, **seconds}, start)


def _peer_row(kind: str, batch_size: int) -> dict[str, Any]:
    from algpt2.tpu_compiler import compile_for_tpu, compiler_version

    start = time.monotonic()
    compiled = compile_for_tpu(_peer_program(batch_size), kind)
    row = {"model": PEER, "dropout": 0.1, "optimizer": "adamw", "core": kind, "libtpu": compiler_version()}
    row |= {"peak_hbm_bytes": compiled.peak_hbm_bytes, "fits": compiled.fits, "largest_batch_per_core": None}
    row |= {"larger_does_not_fit": None, "flops": compiled.flops, "bytes_accessed": compiled.bytes_accessed}
    row |= {"roofline_seconds": None, "mfu_bound": None}
    if compiled.fits:
        pod = _one_chip(kind)
        seconds = roofline(pod, compiled.flops, compiled.bytes_accessed, 0).seconds
        model_flops = batch_size * SEQ_LEN * training_flops_per_token(preset("gpt2"))
        row |= {"roofline_seconds": seconds, "mfu_bound": model_flops / pod.replica_flops / seconds}
    return _logged(row, start)


def _peer_program(batch_size: int) -> bytes:
    """Returns keras-hub's GPT-2 124M, its own dropout, trained by `keras.optimizers.AdamW`, as StableHLO."""
    import keras
    import tensorflow as tf

    from algpt2.step_export import export

    try:
        from keras_hub import models
    except ImportError as error:
        raise UserError(f"--peer needs keras-hub: run `pip install -e '.[bench,rehearsal]'` ({error}).") from error

    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = models.GPT2Backbone(VOCAB_SIZE, 12, 12, 768, 3072, dropout=0.1, max_sequence_length=SEQ_LEN)
    optimizer = keras.optimizers.AdamW(1e-4, global_clipnorm=1.0)
    optimizer.build(backbone.trainable_variables)

    def step(records: tf.Tensor) -> tf.Tensor:
        inputs, targets = records[:, :-1], records[:, 1:]
        with tf.GradientTape() as tape:
            hidden = backbone({"token_ids": inputs, "padding_mask": tf.ones_like(inputs)}, training=True)
            logits = tf.cast(backbone.token_embedding(hidden, reverse=True), tf.float32)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
        gradients = tape.gradient(loss, [variable.value for variable in backbone.trainable_variables])
        optimizer.apply(gradients, backbone.trainable_variables)
        return loss

    return export(step, tf.TensorSpec((batch_size, SEQ_LEN + 1), tf.int32))


def _one_chip(kind: str) -> Any:
    return pod_named(f"{kind}-{1 if TPU_KINDS[kind].names_count_chips else 2}")


def _logged(row: dict[str, Any], start: float) -> dict[str, Any]:
    row["seconds_to_rehearse"] = time.monotonic() - start
    logging.info("%s", row)
    return row


def _document(rows: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> str:
    table = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, rows)]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return _INTRODUCTION.format(batch=arguments.batch_size, libtpu=rows[0]["libtpu"]) + "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    largest = "-" if row["largest_batch_per_core"] is None else str(row["largest_batch_per_core"])
    if row["larger_does_not_fit"] is False:
        largest = f"{largest} or more"
    model = f"{row['model']} (dropout {row['dropout']})"
    available = CHIPS[row["core"]].memory_bytes / CHIPS[row["core"]].replicas / GIB
    peak = f"{row['peak_hbm_bytes'] / GIB:.2f} of {available:.0f}" + ("" if row["fits"] else " (does not fit)")
    cells = [model, row["optimizer"], row["core"], peak, largest]
    if row["flops"] is None:
        return [*cells, "-", "-", "-", "-"]
    milliseconds, mfu = f"{row['roofline_seconds'] * 1e3:.1f}", f"{row['mfu_bound']:.1%}"
    return [*cells, f"{row['flops'] / 1e12:.2f}", f"{row['bytes_accessed'] / 1e9:.1f}", milliseconds, mfu]


_INTRODUCTION = """# Rehearsals

Made by `python benchmarks/rehearsal.py --output docs/rehearsal.md`: not edited by hand.

One core's training step of {batch} x 1024 tokens, in bfloat16, compiled by libtpu {libtpu} on a machine without a TPU.
A core is one replica: half a v3 chip, a whole chip of v5e and v6e. Peak memory, FLOPs and bytes are the compiler's;
bytes count operands that stay on the chip too. The roofline time is an estimate from those and the makers' peak rates,
without an all-reduce: nothing here was run on a TPU. keras-hub is its `GPT2Backbone` with tied head and
`keras.optimizers.AdamW`, exported and compiled in the same way.

"""


if __name__ == "__main__":
    cli.run(main)
