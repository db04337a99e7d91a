"""Kills real training processes with SIGKILL, and compares what the resumed run ends with, bit for bit.

`ALGPT2_KILL_TRIALS=100` asks for a campaign of that many kills instead of the few that every test run does.
"""

import dataclasses
import math
import random
import signal

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
COMMAND_LINE_STEPS = 800
SETTINGS = (
    {"dropout": 0.1, "accumulation_steps": 2, "optimizer": "adamw"},
    {"dropout": 0.1, "accumulation_steps": 1, "optimizer": "muon"},
    {"dropout": 0.0, "accumulation_steps": 1, "optimizer": "adafactor"},
)
# What one run is killed at, in a random order.
CHAIN = ("start", "save", "eval", "between")
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
def test_a_run_killed_at_five_random_moments_ends_bit_identical(records_folder, tmp_path, uninterrupted, chain):
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


def test_a_command_line_stopped_by_sigterm_ends_bit_identical(records_folder, tmp_path):
    """As a user runs it, compiled by XLA."""
    flags = ("--save_every_steps", "25", "--log_every_steps", "25")
    config_path = write_config(tmp_path / "config.json", dropout=0.1)

    def train(folder):
        return start(records_folder, folder, config_path, COMMAND_LINE_STEPS, *flags)

    uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    finish(train(uninterrupted))
    process = train(stopped)
    wait_for_new_checkpoint(process, stopped)
    process.send_signal(signal.SIGTERM)
    _, errors = finish(process, status=75)
    assert "error: SIGTERM stopped the run after step" in errors.splitlines()[-1]
    saved = f"step_{int(errors.splitlines()[-1].split('after step ')[1].split(' ')[0]):08d}"
    assert (stopped / "checkpoints" / saved / "COMMITTED").exists()
    result, errors = finish(train(stopped))
    assert f"resuming from {stopped}/checkpoints/{saved}" in errors
    assert result["step"] == COMMAND_LINE_STEPS
    assert final_tensors(stopped, COMMAND_LINE_STEPS) == final_tensors(uninterrupted, COMMAND_LINE_STEPS)
