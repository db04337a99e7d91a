"""Kills real training processes with SIGKILL, and compares what the resumed run ends with, bit for bit."""

import dataclasses
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ALGPT2_CONFIG, REPOSITORY

STEPS = 1200
TIMEOUT_SECONDS = 120


def start(records_folder, model_dir, config_path):
    command = [
        *(sys.executable, str(REPOSITORY / "train_tfrecords.py"), "--train_path", records_folder),
        *("--config_path", str(config_path), "--model_dir", str(model_dir), "--steps", str(STEPS)),
        *("--batch_size", "8", "--accumulation_steps", "2", "--learning_rate", "1e-2"),
        *("--save_every_steps", "25", "--log_every_steps", "25"),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, errors[-2000:]
    return json.loads(output), errors


def kill_at_a_random_moment(process, model_dir, rng):
    """Waits for a first checkpoint of this process, then a little longer, then sends SIGKILL."""
    newest = max(Path(model_dir).glob("checkpoints/*"), default=None)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while max(Path(model_dir).glob("checkpoints/*"), default=None) == newest:
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.3))
    assert process.poll() is None, "the run ended before it could be killed: give it more steps"
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(("dropout", "kills"), [(0.1, 2), (0.0, 1)])
def test_a_killed_and_resumed_run_ends_bit_identical_to_an_uninterrupted_one(records_folder, tmp_path, dropout, kills):
    config = dataclasses.replace(ALGPT2_CONFIG, vocab_size=300, n_layer=1, dropout=dropout)
    config_path = tmp_path / "config.json"
    config_path.write_text(json.dumps(config.to_dict()))
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    finish(start(records_folder, uninterrupted, config_path))
    rng = random.Random(0)
    for _ in range(kills):
        kill_at_a_random_moment(start(records_folder, killed, config_path), killed, rng)
    result, errors = finish(start(records_folder, killed, config_path))
    assert "resuming from" in errors
    assert result["step"] == STEPS
    final = Path("checkpoints") / f"step_{STEPS:08d}"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (killed / final / name).read_bytes() == (uninterrupted / final / name).read_bytes(), name
