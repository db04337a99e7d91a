"""The process of one cell: `python -m algpt2.studies.cell_process`, with its order as a line of JSON on stdin.

It trains, or goes on, and ends with the status of train_tfrecords.py, or with `EXIT_DIVERGED`. It ends at once when
its stdin does, so that it does not outlive the study's process, however that ends.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import dataclasses
import os
import sys
import threading
from collections.abc import Sequence

from algpt2 import cli
from algpt2.devices import wheels
from algpt2.errors import Diverged
from algpt2.records.record_set import open_record_set
from algpt2.storage import json_files
from algpt2.studies.orders import CellOrder
from algpt2.studies.original_bugs import optimizer_factory

EXIT_DIVERGED = 3
STDIN = 0


def main(argv: Sequence[str]) -> int:
    """Trains the cell whose order is on stdin."""
    cli.argument_parser(__doc__).parse_args(argv)
    order = read_order(os.fdopen(os.dup(STDIN), "rb", buffering=0).readline())
    threading.Thread(target=_end_with_stdin, name="stdin", daemon=True).start()
    try:
        _train(order)
    except Diverged as error:
        print("error:", error, file=sys.stderr)
        return EXIT_DIVERGED
    return cli.EXIT_OK


def write_order(order: CellOrder) -> bytes:
    """Returns the line that tells a process what to do."""
    return (json_files.dumps(dataclasses.asdict(order)) + "\n").encode()


def read_order(line: bytes) -> CellOrder:
    """Returns what a line of `write_order` says; raises `ValueError` if it is another."""
    return json_files.build(CellOrder, json_files.parse_object(line))


def _train(order: CellOrder) -> None:
    wheels.load_tensorflow()

    from algpt2.devices import strategies
    from algpt2.training.loop import train

    run = order.run(open_record_set(order.train_path, "train"), open_record_set(order.val_path, "val"))
    strategies.require_readable_by_tpu(order.tpu, run.data_paths())
    train(run, strategies.create_strategy(order.tpu), create_optimizer=optimizer_factory(order.bugs))


def _end_with_stdin() -> None:
    while os.read(STDIN, 1):
        pass
    interrupts.end_process(cli.EXIT_FAILURE)


if __name__ == "__main__":
    cli.run(main)
