"""Rehearse presets on TPU cores, and keras-hub's GPT-2 through the same compiler; write the table as Markdown."""

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from absl import logging

from algpt2 import cli, storage
from algpt2.config.model import GPTConfig, preset_names
from algpt2.config.training import REMATS, TrainConfig
from algpt2.devices import wheels
from algpt2.devices.tpu_pods import TPU_KINDS, roofline
from algpt2.model.sizes import mfu
from algpt2.preflight.tpu_compiler import Compiled, compile_for_tpu, compiler_version
from algpt2.storage import json_files
from benchmarks.rehearsal_table import Key, Row, document, key_of, one_chip, table

PEER, PEER_PRESET, PEER_DROPOUT = "keras-hub GPT-2", "gpt2", 0.1
# What the search for the largest batch finds; a row keeps it when its other figures are made anew.
SEARCHED = ("largest_batch_per_core", "too_large_batch_per_core")
COMPILED = ("libtpu", "peak_hbm_bytes", "fits", "flops", "hbm_bytes_moved", "on_chip_bytes_moved")
AT_ROOFLINE = ("roofline_seconds", "mfu_at_roofline")
FIGURES = (*COMPILED, *SEARCHED, *AT_ROOFLINE)


def main(argv: Sequence[str]) -> int:
    """Prints every row as JSON and as a table. Both are written after each row, because all of them take hours."""
    arguments = parse(argv)
    wheels.load_tensorflow()
    rows = _rows_made_before(arguments.rows)
    for key in _keys(arguments):
        old = rows.get(key, {})
        search = arguments.search and old.get(SEARCHED[0]) is None
        if _has_every_figure(old) and not search:
            continue
        row = make_row(key, search)
        rows[key] = row if search else {**row, **_searched(old, row["libtpu"])}
        logging.info("%s", rows[key])
        _write(rows, arguments)
    _write(rows, arguments)
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
    rows = "JSON of rows made before: whole ones are kept, those that lack a figure are made anew, new ones are added"
    parser.add_argument("--rows", metavar="FILE", help=rows)
    parser.add_argument("--output", metavar="FILE", help="Markdown to write")
    return parser


def make_row(key: Key, search: bool) -> Row:
    """Returns the figures of one row, which is one compilation, and with `search` several more."""
    figures = _peer_figures(key, search) if key.model == PEER else _own_figures(key, search)
    return {**key._asdict(), **{name: figures.get(name) for name in FIGURES}}


def _rows_made_before(path: str | None) -> dict[Key, Row]:
    if not path or not storage.exists(path):
        return {}
    return {key_of(row): row for row in json_files.read_object(path, "this script")["rows"]}


def _has_every_figure(row: Row) -> bool:
    """False of a row that was made before one of the figures was known."""
    return all(name in row for name in FIGURES)


def _searched(row: Row, libtpu: str) -> Row:
    """Returns what a search found before, if it was with the same compiler."""
    return {name: row[name] for name in SEARCHED} if row.get("libtpu") == libtpu else {}


def _write(rows: dict[Key, Row], arguments: argparse.Namespace) -> None:
    if arguments.rows:
        storage.write_text(arguments.rows, json_files.dumps({"rows": list(rows.values())}, indent=2) + "\n")
    if arguments.output:
        storage.write_text(arguments.output, document(rows.values()))


def _keys(arguments: argparse.Namespace) -> Iterator[Key]:
    """Yields what identifies each row."""
    for kind in arguments.peer:
        dropout = PEER_DROPOUT if arguments.dropout is None else arguments.dropout
        yield Key(PEER, dropout, "none", "adamw", kind, arguments.batch_size)
    for name, kind, optimizer in itertools.product(arguments.presets, arguments.kinds, arguments.optimizers):
        dropout = GPTConfig.from_preset(name).dropout if arguments.dropout is None else arguments.dropout
        yield Key(name, dropout, arguments.remat, optimizer, kind, arguments.batch_size)


def _own_figures(key: Key, search: bool) -> dict[str, Any]:
    from algpt2.preflight.rehearsal import rehearse

    pod = one_chip(key.core)
    train_config = TrainConfig(
        total_steps=1,
        batch_size=key.batch_size * pod.n_replicas,
        optimizer=key.optimizer,
        compute_dtype="bfloat16",
        remat=key.remat,
    )
    return rehearse(
        dataclasses.replace(GPTConfig.from_preset(key.model), dropout=key.dropout), train_config, pod.name, search
    ).figures()


def _peer_figures(key: Key, search: bool) -> dict[str, Any]:
    from algpt2.preflight.batch_search import Trial, largest_fitting
    from algpt2.preflight.rehearsal import trial_of
    from benchmarks.keras_hub_step import keras_hub_program

    def compile_step(batch_size: int) -> Compiled:
        return compile_for_tpu(keras_hub_program(batch_size, key.dropout), key.core)

    def compile_batch(batch_size: int) -> Trial:
        return trial_of(batch_size, compile_step(batch_size))

    compiled = compile_step(key.batch_size)
    figures = {**dataclasses.asdict(compiled), "libtpu": compiler_version()}
    if compiled.fits:
        figures |= _peer_at_roofline(key, compiled)
    if search:
        first, fixed_bytes = trial_of(key.batch_size, compiled), compiled.argument_bytes or 0
        found = largest_fitting(compile_batch, first, fixed_bytes, one_chip(key.core).replica_hbm_bytes)
        figures |= dict(zip(SEARCHED, found, strict=True))
    return figures


def _peer_at_roofline(key: Key, compiled: Compiled) -> dict[str, float]:
    """Returns the time of the peer's step on one core at the roofline, and the MFU in that time, as for our own."""
    config = GPTConfig.from_preset(PEER_PRESET)
    seconds = roofline(one_chip(key.core), compiled.flops, compiled.hbm_bytes_moved, reduced_bytes=0).seconds
    utilisation = mfu(config, key.batch_size * config.seq_len / seconds, 1, key.core)
    return dict(zip(AT_ROOFLINE, (seconds, utilisation), strict=True))


if __name__ == "__main__":
    cli.run(main)
