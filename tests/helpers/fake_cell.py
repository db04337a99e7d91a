"""Stands for the process of a cell, without TensorFlow: `python fake_cell.py` reads its order as the real one does.

What it comes to depends on its rate and seed alone.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from algpt2.data.record_set import open_record_set
from algpt2.runs.folder import RESULT_NAME, RunIdentity, begin_run_folder
from algpt2.studies.cell_process import EXIT_DIVERGED, CellOrder, read_order

CRASHING, DIVERGING, KILLED, WAITING = 0.5, 0.25, 0.125, 0.0625
BEST = 0.03
STARTED = "started"


def bits_per_byte(learning_rate: float, seed: int) -> float:
    """Returns the score of a cell."""
    return abs(learning_rate - BEST) + seed / 1000


def main() -> int:
    """Does as the order's rate says; leaves a file where it was started."""
    order = read_order(sys.stdin.buffer.readline())
    fingerprint = open_record_set(order.train_path, "train", check_content=False).fingerprint
    begin_run_folder(order.model_dir, RunIdentity(order.model_config, order.train_config, fingerprint))
    print("a line of chatter", file=sys.stderr)
    Path(order.model_dir, STARTED).touch()
    return _end(order)


def _end(order: CellOrder) -> int:
    rate = order.train_config.learning_rate
    if rate == CRASHING:
        raise ValueError("the disk is full")
    if rate == DIVERGING:
        print("error: the loss is not finite", file=sys.stderr)
        return EXIT_DIVERGED
    if rate == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if rate == WAITING:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        time.sleep(60)
    bits = bits_per_byte(rate, order.train_config.seed)
    result = {"parameters": order.model_config.parameter_count(), "step": order.train_config.total_steps}
    result |= {"tokens_per_second": 1000.0, "val_loss": 2 * bits, "val_bits_per_byte": bits}
    Path(order.model_dir, RESULT_NAME).write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
