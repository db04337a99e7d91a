"""Stands for the process of a cell: `python fake_cell.py` reads its order as the real one does, and trains nothing.

What it comes to depends on its rate and seed alone. It imports nothing of the package, so it takes a moment.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

CRASHING, DIVERGING, KILLED, WAITING = 0.5, 0.25, 0.125, 0.0625
BEST = 0.03
STARTED = "started"
# The environment variable with the fingerprint of the training records, which the real process computes.
FINGERPRINT = "FAKE_CELL_FINGERPRINT"
EXIT_DIVERGED, EXIT_INTERRUPTED = 3, 75


def bits_per_byte(learning_rate: float, seed: int) -> float:
    """Returns the score of a cell."""
    return abs(learning_rate - BEST) + seed / 1000


def main() -> int:
    """Does as the order's rate says; leaves a file where it was started."""
    order = json.loads(sys.stdin.readline())
    folder, config = Path(order["model_dir"]), order["train_config"]
    folder.mkdir(parents=True, exist_ok=True)
    run = {"model_config": order["model_config"], "train_config": config, "train_fingerprint": os.environ[FINGERPRINT]}
    (folder / "run.json").write_text(json.dumps(run))
    print("a line of chatter", file=sys.stderr)
    (folder / STARTED).touch()
    if status := end_of(config["learning_rate"]):
        return status
    bits = bits_per_byte(config["learning_rate"], config["seed"])
    result = {"step": config["total_steps"], "tokens_per_second": 1000.0}
    (folder / "result.json").write_text(json.dumps({**result, "val_loss": 2 * bits, "val_bits_per_byte": bits}))
    return 0


def end_of(rate: float) -> int:
    """Returns the status that a cell of this rate ends with, if it gets so far."""
    if rate == CRASHING:
        raise ValueError("the disk is full")
    if rate == DIVERGING:
        print("error: the loss is not finite", file=sys.stderr)
        return EXIT_DIVERGED
    if rate == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    if rate == WAITING:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_INTERRUPTED))
        time.sleep(60)
    return 0


if __name__ == "__main__":
    sys.exit(main())
