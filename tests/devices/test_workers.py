"""Two real worker processes on this machine, told of each other by TF_CONFIG."""

import dataclasses
import math
import random
import re
import shutil
import time

import numpy as np
import pytest
import tensorflow as tf
from benchmark_files import benchmark_files
from kill_trials import KILLS, draw_moment, outcome, run_of, start_trial, wait_for_death, wait_for_end
from safetensors import numpy as safetensors
from training_process import (
    cluster_environments,
    final_tensors,
    finish,
    start,
    write_config,
)

from algpt2.devices.strategies import create_strategy
from algpt2.devices.workers import Workers, lost_workers
from algpt2.errors import TrainingStopped, UserError

STEPS = 5
KILLED_STEPS = 60
FLAGS = ("--save_every_steps", "10", "--log_every_steps", "10", "--no-jit_compile")
BENCHMARKS = ("wikitext", "hellaswag", "lambada")
SAMPLES = ("--sample_prompt", "alpha", "--sample_tokens", "3", "--eval_every_steps", "2")


def train_on_two(records_folder, model_dir, config_path, flags, steps=STEPS):
    processes = [
        start(records_folder, model_dir, config_path, steps, *flags, environment=environment)
        for environment in cluster_environments(2)
    ]
    return [finish(process) for process in processes]


def benchmark_flags(folder):
    return tuple(part for flag, path in benchmark_files(folder).items() for part in (f"--{flag}", path))


@pytest.fixture(scope="module")
def alone(records_folder, tmp_path_factory):
    """A run of one process: its folder, the flags it had, and its result."""
    folder = tmp_path_factory.mktemp("alone")
    flags = (*FLAGS, *benchmark_flags(folder), "--ema_decay", "0.9", "--val_path", records_folder)
    config_path = write_config(folder / "config.json", dropout=0.0)
    result, _ = finish(start(records_folder, folder / "run", config_path, STEPS, *flags))
    return folder, (config_path, flags), result


def vector(found):
    return np.concatenate([tensor.ravel() for _, tensor in sorted(found.items())]).astype(np.float64)


def tensors(model_dir, steps, file):
    """Returns the parameters, file 0, or the optimizer's state, file 1, of a finished run."""
    return safetensors.load(final_tensors(model_dir, steps)[file])


def require_close(one, two, steps):
    for file in range(2):
        found, expected = tensors(two, steps, file), tensors(one, steps, file)
        assert set(found) == set(expected)
        assert np.linalg.norm(vector(found) - vector(expected)) <= 1e-5 * np.linalg.norm(vector(expected))


def test_two_workers_train_as_one_process_does_and_only_the_chief_writes(alone, records_folder, tmp_path):
    folder, (config_path, flags), result_of_one = alone
    results = train_on_two(records_folder, tmp_path / "two", config_path, flags + SAMPLES)
    assert all("2 replicas of 2 workers" in errors for _, errors in results)
    assert ["saved" in errors for _, errors in results] == [True, False]
    assert [errors.count("sample 'alpha'") for _, errors in results] == [3, 0], "after steps 2, 4 and 5"
    assert len(list((tmp_path / "two" / "tensorboard").iterdir())) == 1
    require_close(folder / "run", tmp_path / "two", STEPS)
    measured = {name: value for name, value in result_of_one.items() if name.startswith(BENCHMARKS)}
    assert len(measured) == 6
    for result, _ in results:
        assert {name: result[name] for name in measured} == pytest.approx(measured, rel=1e-4)


def test_two_workers_that_share_the_optimizers_state_out_go_on_where_one_process_ended_and_end_as_it_does(
    alone, records_folder, tmp_path
):
    """Catches: a chief that saves its own part only, or that waits for parts of workers that do not bring them."""
    folder, (config_path, flags), _ = alone
    one, two = tmp_path / "one", tmp_path / "two"
    for copy in (one, two):
        shutil.copytree(folder / "run", copy)
    steps = STEPS + 3
    process = start(records_folder, one, config_path, steps, *flags)
    shared_out = train_on_two(records_folder, two, config_path, (*flags, "--shard_optimizer_state"), steps)
    result_of_one, errors = finish(process)
    losses = [result["ema_val_loss"] for result, _ in shared_out]
    assert losses == pytest.approx([result_of_one["ema_val_loss"]] * 2, rel=1e-5)
    state_bytes = [int(re.search(r"(\d+) bytes of optimizer state", log)[1]) for log in (errors, shared_out[0][1])]
    assert state_bytes[1] == pytest.approx(state_bytes[0] / 2, rel=1e-3)
    require_close(one, two, steps)


def start_both(run, notes_paths, moments):
    return [
        start_trial(run, notes_path, moment, environment)
        for notes_path, moment, environment in zip(notes_paths, moments, cluster_environments(2), strict=True)
    ]


def train_both(run, folder):
    """Trains to the end; returns what the two processes noted."""
    notes_paths = [folder / "notes-of-0", folder / "notes-of-1"]
    processes = start_both(run, notes_paths, [None, None])
    return [wait_for_end(*pair)[1] for pair in zip(processes, notes_paths, strict=True)]


@pytest.fixture(scope="module")
def uninterrupted(records_folder, tmp_path_factory):
    """A run of both workers without a kill, and what each of them noted."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    run = run_of(records_folder, folder / "run", KILLED_STEPS, dropout=0.1)
    return run, train_both(run, folder)


@pytest.mark.parametrize("chain", range(math.ceil(KILLS / 25)))
def test_a_worker_killed_twice_ends_the_other_and_both_resume_bit_identical(tmp_path, uninterrupted, chain):
    expected_run, expected_notes = uninterrupted
    run = dataclasses.replace(expected_run, model_dir=str(tmp_path / "run"))
    rng = random.Random(chain)
    # The chief, number 0, is the one that saves.
    for victim, kind in [(0, "save"), rng.choice([(rng.randrange(2), "eval"), (1, "between")])]:
        notes_paths = [tmp_path / f"notes-{kind}-of-{index}" for index in range(2)]
        moments = [None, None]
        moments[victim] = draw_moment(rng, kind, expected_notes[victim])
        processes = start_both(run, notes_paths, moments)
        where, began = wait_for_death(processes[victim], notes_paths[victim], kind)
        print(f"chain {chain}  worker {victim}  {kind:8s} began {began}  {where}")
        death = time.monotonic()
        logged, _ = wait_for_end(processes[1 - victim], notes_paths[1 - victim], status=1)
        print(f"the other one ended after {time.monotonic() - death:.1f} s")
        assert "another worker of this run is gone" in logged
    notes, _ = train_both(run, tmp_path)
    assert max(note["began"] for note in notes if "began" in note) > 0
    assert outcome(run) == outcome(expected_run)


def test_one_process_agrees_with_itself():
    workers = Workers(tf.distribute.get_strategy())
    assert (workers.count, workers.is_chief) == (1, True)
    assert workers.from_chief(7) == 7
    assert workers.any(True)
    assert not workers.any(False)


@pytest.mark.parametrize(
    ("count", "said"), [(2, "another worker of this run is gone"), (1, "the run's devices and its records")]
)
@pytest.mark.parametrize("kind", [tf.errors.UnavailableError, tf.errors.DeadlineExceededError])
def test_only_a_run_of_several_workers_can_have_lost_one(count, said, kind):
    """Catches: an outage in a run of one process that is told as the loss of another worker."""
    with (
        pytest.raises(TrainingStopped, match=f"{said}.*the end of a long message.*last checkpoint"),
        lost_workers(count),
    ):
        raise kind(None, None, "Graph execution error:\n" + "a file\n" * 100 + "the end of a long message")


@pytest.mark.parametrize(
    "tf_config",
    ["{", "[]", "{}", '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}'],
)
def test_a_tf_config_that_is_none_is_refused(monkeypatch, tf_config):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(UserError, match="TF_CONFIG must be like"):
        create_strategy()
