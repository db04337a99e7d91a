"""Rehearse presets on TPU cores, and keras-hub's GPT-2 through the same compiler; write the table as Markdown."""

import argparse
import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging

from algpt2 import cli, environment, storage, strict_json
from algpt2.config import preset, preset_names
from algpt2.errors import UserError
from algpt2.flops import GIB, training_flops_per_token
from algpt2.roofline import roofline
from algpt2.tpu_pods import TPU_KINDS, pod_named
from algpt2.train_config import REMATS, TrainConfig

SEQ_LEN, VOCAB_SIZE = 1024, 50257
PEER, PEER_DROPOUT = "keras-hub GPT-2", 0.1
KEY = ("model", "dropout", "remat", "optimizer", "core", "batch_size")
Key = tuple[str, float, str, str, str, int]
FIGURES = (
    *("libtpu", "peak_hbm_bytes", "fits", "largest_batch_per_core", "larger_does_not_fit"),
    *("flops", "bytes_accessed"),
)
COLUMNS = (
    *("model", "dropout", "remat", "optimizer", "core", "batch", "peak, GiB", "largest batch"),
    *("TFLOP", "GB", "roofline, ms", "MFU at most", "libtpu"),
)


def main(argv: Sequence[str]) -> int:
    """Prints every row as JSON and as a table, which is written after each row, for all of them take hours."""
    arguments = parse(argv)
    environment.require_tensorflow()
    rows = strict_json.read_object(arguments.rows, "this script")["rows"] if _has_rows(arguments) else []
    made = [_key(row) for row in rows]
    for key in _keys(arguments):
        if key in made:
            continue
        rows.append(_row(key, arguments))
        if arguments.rows:
            storage.write_text(arguments.rows, strict_json.dumps({"rows": rows}, indent=2) + "\n")
        _write_table(rows, arguments.output)
    _write_table(rows, arguments.output)
    print(_table(rows), end="", file=sys.stderr)
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
    parser.add_argument("--remat", choices=REMATS, default="none", help="of every preset")
    parser.add_argument("--dropout", type=float, help="instead of the models' own")
    parser.add_argument("--peer", nargs="*", default=[], choices=list(TPU_KINDS), help=f"{PEER}'s GPT-2 on these TPUs")
    parser.add_argument("--rows", metavar="FILE", help="JSON of rows made before, which are kept; new ones are added")
    parser.add_argument("--output", metavar="FILE", help="Markdown to write")
    return parser.parse_args(argv)


def _write_table(rows: Sequence[dict[str, Any]], path: str | None) -> None:
    if path:
        storage.write_text(path, _document(rows))


def _has_rows(arguments: argparse.Namespace) -> bool:
    return bool(arguments.rows) and storage.exists(arguments.rows)


def _keys(arguments: argparse.Namespace) -> Iterator[Key]:
    """Yields what identifies each row."""
    for kind in arguments.peer:
        dropout = PEER_DROPOUT if arguments.dropout is None else arguments.dropout
        yield (PEER, dropout, "none", "adamw", kind, arguments.batch_size)
    for name, kind, optimizer in itertools.product(arguments.presets, arguments.kinds, arguments.optimizers):
        dropout = preset(name).dropout if arguments.dropout is None else arguments.dropout
        yield (name, dropout, arguments.remat, optimizer, kind, arguments.batch_size)


def _key(row: dict[str, Any]) -> Key:
    return tuple(row[name] for name in KEY)


def _row(key: Key, arguments: argparse.Namespace) -> dict[str, Any]:
    start = time.monotonic()
    figures = _peer_figures(key) if key[0] == PEER else _own_figures(key, arguments.search)
    row = {**dict(zip(KEY, key, strict=True)), **figures, "seconds_to_rehearse": time.monotonic() - start}
    logging.info("%s", row)
    return row


def _own_figures(key: Key, search: bool) -> dict[str, Any]:
    from algpt2.rehearsal import rehearse

    name, dropout, remat, optimizer, kind, batch_size = key
    pod = _one_chip(kind)
    train_config = TrainConfig(
        1, batch_size * pod.n_replicas, optimizer=optimizer, compute_dtype="bfloat16", remat=remat
    )
    found = rehearse(dataclasses.replace(preset(name), dropout=dropout), train_config, pod.name, search).figures()
    seconds = max(found["compute_seconds"], found["memory_seconds"]) if found["fits"] else None
    return {**{figure: found[figure] for figure in FIGURES}, **_bounds(kind, batch_size, name, seconds)}


def _peer_figures(key: Key) -> dict[str, Any]:
    from algpt2.tpu_compiler import compile_for_tpu, compiler_version

    _, dropout, _, _, kind, batch_size = key
    compiled = compile_for_tpu(_peer_program(batch_size, dropout), kind)
    seconds = None
    if compiled.fits:
        seconds = roofline(_one_chip(kind), compiled.flops, compiled.bytes_accessed, 0).seconds
    found = {**dataclasses.asdict(compiled), "libtpu": compiler_version()}
    return {**{figure: found.get(figure) for figure in FIGURES}, **_bounds(kind, batch_size, "gpt2", seconds)}


def _bounds(kind: str, batch_size: int, name: str, seconds: float | None) -> dict[str, float | None]:
    """Returns the roofline of one core without an all-reduce, and the MFU in that time."""
    if seconds is None:
        return {"roofline_seconds": None, "mfu_bound": None}
    model_flops = batch_size * preset(name).seq_len * training_flops_per_token(preset(name))
    return {"roofline_seconds": seconds, "mfu_bound": model_flops / _one_chip(kind).replica_flops / seconds}


def _peer_program(batch_size: int, dropout: float) -> bytes:
    """Returns a step of keras-hub's GPT-2 124M, trained by `keras.optimizers.AdamW`, as StableHLO."""
    import keras
    import tensorflow as tf

    from algpt2.step_export import export

    try:
        from keras_hub import models
    except ImportError as error:
        raise UserError(f"--peer needs keras-hub: run `pip install -e '.[bench,rehearsal]'` ({error}).") from error

    keras.config.set_dtype_policy("mixed_bfloat16")
    backbone = models.GPT2Backbone(VOCAB_SIZE, 12, 12, 768, 3072, dropout=dropout, max_sequence_length=SEQ_LEN)
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


def _document(rows: Sequence[dict[str, Any]]) -> str:
    return _INTRODUCTION + _table(rows)


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(_cells, rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cells(row: dict[str, Any]) -> list[str]:
    largest = "-" if row["largest_batch_per_core"] is None else str(row["largest_batch_per_core"])
    if row["larger_does_not_fit"] is False:
        largest = f"{largest} or more"
    available = _one_chip(row["core"]).replica_hbm_bytes / GIB
    peak = f"{row['peak_hbm_bytes'] / GIB:.2f} of {available:.0f}" + ("" if row["fits"] else ": does not fit")
    bounds = ["-"] * 4
    if row["fits"]:
        milliseconds, mfu = f"{row['roofline_seconds'] * 1e3:.1f}", f"{row['mfu_bound']:.1%}"
        bounds = [f"{row['flops'] / 1e12:.2f}", f"{row['bytes_accessed'] / 1e9:.1f}", milliseconds, mfu]
    return [*map(str, _key(row)), peak, largest, *bounds, row["libtpu"]]


_INTRODUCTION = """# Rehearsals

Made by `benchmarks/rehearsal.py`, called as CONTRIBUTING.md says: not edited by hand.

One core's training step, a batch of sequences as long as the model takes, in bfloat16, compiled by libtpu on a machine
without a TPU. A core is one replica: half a v3 chip, a whole chip of v5e and v6e. Peak memory, FLOPs and bytes are the
compiler's; bytes count operands that stay on the chip too. The roofline time is an estimate from those and the makers'
peak rates, without an all-reduce, and so is the MFU: nothing here was run on a TPU. The largest batch is given where
it was searched for. Rows are without dropout: with 0.1, gpt2's memory, FLOPs and traffic on v3 differ by less than
1%, keras-hub's by far more (docs/experiments.md). keras-hub's GPT-2 is `GPT2Backbone` of 124M parameters at 1024
positions with its tied head, and `keras.optimizers.AdamW`, compiled in the same way.

"""


if __name__ == "__main__":
    cli.run(main)
