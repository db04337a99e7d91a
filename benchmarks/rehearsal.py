"""Rehearse presets on TPU cores, and keras-hub's GPT-2 through the same compiler; write the table as Markdown."""

import argparse
import dataclasses
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging

from algpt2 import cli, storage
from algpt2.config.model import preset, preset_names
from algpt2.config.training import REMATS, TrainConfig
from algpt2.devices import wheels
from algpt2.devices.tpu_pods import TPU_KINDS, roofline
from algpt2.model.sizes import training_flops_per_token
from algpt2.storage import json_files
from benchmarks.rehearsal_table import KEY, Row, document, key_of, one_chip, table

PEER, PEER_PRESET, PEER_DROPOUT = "keras-hub GPT-2", "gpt2", 0.1
Key = tuple[str, float, str, str, str, int]
FIGURES = (
    *("libtpu", "peak_hbm_bytes", "fits", "largest_batch_per_core", "too_large_batch_per_core"),
    *("flops", "bytes_accessed"),
)


def main(argv: Sequence[str]) -> int:
    """Prints every row as JSON and as a table, which is written after each row, for all of them take hours."""
    arguments = parse(argv)
    wheels.load_tensorflow()
    rows = _rows_made_before(arguments)
    for key in _keys(arguments):
        if key in rows and not (arguments.search and rows[key]["largest_batch_per_core"] is None):
            continue
        rows[key] = _row(key, arguments.search)
        if arguments.rows:
            storage.write_text(arguments.rows, json_files.dumps({"rows": list(rows.values())}, indent=2) + "\n")
        _write_table(rows, arguments.output)
    _write_table(rows, arguments.output)
    print(table(rows.values()), end="", file=sys.stderr)
    cli.print_json(list(rows.values()))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--presets", nargs="*", default=preset_names(), choices=preset_names(), help="models")
    parser.add_argument("--kinds", nargs="+", default=["v3", "v5e", "v6e"], choices=list(TPU_KINDS), help="TPUs")
    parser.add_argument("--optimizers", nargs="+", default=["adamw", "adafactor"], help="of every preset")
    parser.add_argument("--batch_size", type=int, default=4, help="sequences of a core and step (default: 4)")
    parser.add_argument("--search", action=argparse.BooleanOptionalAction, default=True, help="find the largest batch")
    parser.add_argument("--remat", choices=REMATS, default="none", help="of every preset")
    parser.add_argument("--dropout", type=float, help="instead of the models' own")
    parser.add_argument("--peer", nargs="*", default=[], choices=list(TPU_KINDS), help=f"{PEER} on these TPUs")
    parser.add_argument("--rows", metavar="FILE", help="JSON of rows made before, which are kept; new ones are added")
    parser.add_argument("--output", metavar="FILE", help="Markdown to write")
    return parser


def _rows_made_before(arguments: argparse.Namespace) -> dict[Key, Row]:
    if not arguments.rows or not storage.exists(arguments.rows):
        return {}
    return {key_of(row): row for row in json_files.read_object(arguments.rows, "this script")["rows"]}


def _write_table(rows: dict[Key, Row], path: str | None) -> None:
    if path:
        storage.write_text(path, document(rows.values()))


def _keys(arguments: argparse.Namespace) -> Iterator[Key]:
    """Yields what identifies each row."""
    for kind in arguments.peer:
        dropout = PEER_DROPOUT if arguments.dropout is None else arguments.dropout
        yield (PEER, dropout, "none", "adamw", kind, arguments.batch_size)
    for name, kind, optimizer in itertools.product(arguments.presets, arguments.kinds, arguments.optimizers):
        dropout = preset(name).dropout if arguments.dropout is None else arguments.dropout
        yield (name, dropout, arguments.remat, optimizer, kind, arguments.batch_size)


def _row(key: Key, search: bool) -> Row:
    start = time.monotonic()
    figures = _peer_figures(key, search) if key[0] == PEER else _own_figures(key, search)
    row = {**dict(zip(KEY, key, strict=True)), **figures, "seconds_to_rehearse": time.monotonic() - start}
    logging.info("%s", row)
    return row


def _own_figures(key: Key, search: bool) -> dict[str, Any]:
    from algpt2.preflight.rehearsal import rehearse

    name, dropout, remat, optimizer, kind, batch_size = key
    pod = one_chip(kind)
    train_config = TrainConfig(
        1, batch_size * pod.n_replicas, optimizer=optimizer, compute_dtype="bfloat16", remat=remat
    )
    found = rehearse(dataclasses.replace(preset(name), dropout=dropout), train_config, pod.name, search).figures()
    return {**{figure: found[figure] for figure in FIGURES}, **_bounds(kind, batch_size, name, found)}


def _peer_figures(key: Key, search: bool) -> dict[str, Any]:
    from algpt2.preflight.batch_search import largest_fitting
    from algpt2.preflight.tpu_compiler import Compiled, compile_for_tpu, compiler_version
    from benchmarks.keras_hub_step import keras_hub_program

    _, dropout, _, _, kind, batch_size = key

    def compile_step(batch_size: int) -> Compiled:
        return compile_for_tpu(keras_hub_program(batch_size, dropout), kind)

    def peak_of(batch_size: int) -> tuple[int, bool]:
        tried = compile_step(batch_size)
        return tried.peak_hbm_bytes, tried.fits

    compiled, pod = compile_step(batch_size), one_chip(kind)
    found = {**dataclasses.asdict(compiled), "libtpu": compiler_version()}
    if search:
        fixed_bytes, memory_bytes = compiled.argument_bytes or 0, pod.replica_hbm_bytes
        found["largest_batch_per_core"], found["too_large_batch_per_core"] = largest_fitting(
            peak_of, batch_size, compiled.peak_hbm_bytes, compiled.fits, fixed_bytes, memory_bytes
        )
    return {**{figure: found.get(figure) for figure in FIGURES}, **_bounds(kind, batch_size, PEER_PRESET, found)}


def _bounds(kind: str, batch_size: int, name: str, found: dict[str, Any]) -> dict[str, float | None]:
    """Returns the roofline of one core without an all-reduce, and the MFU in that time."""
    if not found["fits"]:
        return {"roofline_seconds": None, "mfu_bound": None}
    seconds = roofline(one_chip(kind), found["flops"], found["bytes_accessed"], 0).seconds
    model_flops = batch_size * preset(name).seq_len * training_flops_per_token(preset(name))
    return {"roofline_seconds": seconds, "mfu_bound": model_flops / one_chip(kind).replica_flops / seconds}


if __name__ == "__main__":
    cli.run(main)
