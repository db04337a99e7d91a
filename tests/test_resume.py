"""Kills real training processes with SIGKILL, and compares what the resumed run ends with, bit for bit."""

import random
import signal
import time

import pytest
from training_process import final_tensors, finish, start, wait_for_new_checkpoint, write_config

STEPS = 1200
FLAGS = ("--accumulation_steps", "2", "--save_every_steps", "25", "--log_every_steps", "25")


def kill_at_a_random_moment(process, model_dir, rng):
    """Waits for a first checkpoint of this process, then a little longer, then sends SIGKILL."""
    wait_for_new_checkpoint(process, model_dir)
    time.sleep(rng.uniform(0, 0.3))
    assert process.poll() is None, "the run ended before it could be killed: give it more steps"
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(("dropout", "kills"), [(0.1, 2), (0.0, 1)])
def test_a_killed_and_resumed_run_ends_bit_identical_to_an_uninterrupted_one(records_folder, tmp_path, dropout, kills):
    config_path = write_config(tmp_path / "config.json", dropout=dropout)
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    finish(start(records_folder, uninterrupted, config_path, STEPS, *FLAGS))
    rng = random.Random(0)
    for _ in range(kills):
        kill_at_a_random_moment(start(records_folder, killed, config_path, STEPS, *FLAGS), killed, rng)
    result, errors = finish(start(records_folder, killed, config_path, STEPS, *FLAGS))
    assert "resuming from" in errors
    assert result["step"] == STEPS
    assert final_tensors(killed, STEPS) == final_tensors(uninterrupted, STEPS)
