"""Kills real training processes with SIGKILL, and compares what the resumed run ends with, bit for bit.

`ALGPT2_KILL_TRIALS=108` asks for a campaign of that many kills instead of the few that every test run does.
"""

import dataclasses
import math
import random
import signal
import time

import pytest
from kill_trials import (
    KILLS,
    draw_moment,
    newest_committed_step,
    outcome,
    run_of,
    start_trial,
    wait_for_death,
    wait_for_end,
)
from training_process import final_tensors, finish, start, wait_for_new_checkpoint, write_config

STEPS = 120
SETTINGS = (
    {"dropout": 0.1, "accumulation_steps": 2, "optimizer": "adamw"},
    {"dropout": 0.0, "accumulation_steps": 1, "optimizer": "adafactor"},
    {"dropout": 0.1, "accumulation_steps": 1, "optimizer": "muon"},
)
# What one run is killed at, in a random order.
CHAIN = ("start", "save", "save", "save", "eval", "eval", "between", "between")
CHAINS = math.ceil(KILLS / (len(CHAIN) + 1))


@pytest.fixture(scope="module")
def uninterrupted(records_folder, tmp_path_factory):
    """Trains the run of some settings once, without a kill; returns it and what its process noted."""
    done = {}

    def train(index):
        if index not in done:
            folder = tmp_path_factory.mktemp("uninterrupted")
            run = run_of(records_folder, folder / "run", STEPS, **SETTINGS[index])
            _, notes = wait_for_end(start_trial(run, folder / "notes"), folder / "notes")
            done[index] = run, notes
        return done[index]

    return train


@pytest.mark.parametrize("chain", range(CHAINS))
def test_a_run_killed_at_nine_random_moments_ends_bit_identical(records_folder, tmp_path, uninterrupted, chain):
    expected_run, expected_notes = uninterrupted(chain % len(SETTINGS))
    run = dataclasses.replace(expected_run, model_dir=str(tmp_path / "run"))
    rng = random.Random(chain)
    places, beginnings = [], []
    for number, kind in enumerate([*rng.sample(CHAIN, len(CHAIN)), "end"]):
        committed, notes_path = newest_committed_step(run), tmp_path / f"notes-{number}"
        process = start_trial(run, notes_path, draw_moment(rng, kind, expected_notes))
        where, began = wait_for_death(process, notes_path, kind)
        print(f"chain {chain}  {kind:8s} began {began}  {where}")
        assert began in (committed, None)
        places.append(where)
        beginnings.append(began or 0)
    wait_for_end(start_trial(run, tmp_path / "notes"), tmp_path / "notes")
    assert len(set(places)) >= len(CHAIN) - 1, "the moments must be spread"
    assert any(beginnings), "the run must go on between the kills"
    assert outcome(run) == outcome(expected_run)


def test_a_killed_command_line_compiled_by_xla_ends_bit_identical(records_folder, tmp_path):
    flags = ("--accumulation_steps", "2", "--save_every_steps", "25", "--log_every_steps", "25")
    steps = 1200
    config_path = write_config(tmp_path / "config.json", dropout=0.1)
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    finish(start(records_folder, uninterrupted, config_path, steps, *flags))
    process = start(records_folder, killed, config_path, steps, *flags)
    wait_for_new_checkpoint(process, killed)
    time.sleep(random.Random(0).uniform(0, 0.3))
    assert process.poll() is None, "the run ended before it could be killed: give it more steps"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    result, errors = finish(start(records_folder, killed, config_path, steps, *flags))
    assert "resuming from" in errors
    assert result["step"] == steps
    assert final_tensors(killed, steps) == final_tensors(uninterrupted, steps)
