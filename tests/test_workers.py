"""Two real worker processes on this machine, told of each other by TF_CONFIG."""

import dataclasses
import signal

import numpy as np
import pytest
import tensorflow as tf
from safetensors import numpy as safetensors
from training_process import (
    cluster_environments,
    final_tensors,
    finish,
    start,
    wait_for_new_checkpoint,
    write_config,
)

from algpt2.distribution import create_strategy
from algpt2.errors import UserError
from algpt2.workers import Workers

STEPS = 120
FLAGS = ("--save_every_steps", "10", "--log_every_steps", "10", "--no-jit_compile")


@dataclasses.dataclass
class Cluster:
    processes: list

    def finish(self, status=0):
        return [finish(process, status) for process in self.processes]


def start_workers(records_folder, model_dir, config_path, steps=STEPS):
    environments = cluster_environments(2)
    return Cluster(
        [
            start(records_folder, model_dir, config_path, steps, *FLAGS, environment=environment)
            for environment in environments
        ]
    )


def parameters(model_dir, steps):
    tensors = safetensors.load(final_tensors(model_dir, steps)[0])
    return np.concatenate([tensor.ravel() for _, tensor in sorted(tensors.items())]).astype(np.float64)


def test_two_workers_train_as_one_process_does_and_only_the_chief_writes(records_folder, tmp_path):
    steps = 5
    config_path = write_config(tmp_path / "config.json", dropout=0.0)
    finish(start(records_folder, tmp_path / "one", config_path, steps, *FLAGS))
    results = start_workers(records_folder, tmp_path / "two", config_path, steps).finish()
    assert all("2 replicas of 2 workers" in errors for _, errors in results)
    assert ["saved" in errors for _, errors in results] == [True, False]
    one, two = (parameters(tmp_path / name, steps) for name in ("one", "two"))
    assert np.linalg.norm(two - one) / np.linalg.norm(one) <= 1e-5


def test_a_worker_is_killed_and_both_started_again_end_bit_identical(records_folder, tmp_path):
    config_path = write_config(tmp_path / "config.json", dropout=0.1)
    start_workers(records_folder, tmp_path / "uninterrupted", config_path).finish()
    cluster = start_workers(records_folder, tmp_path / "killed", config_path)
    wait_for_new_checkpoint(cluster.processes[0], tmp_path / "killed")
    cluster.processes[1].send_signal(signal.SIGKILL)
    cluster.processes[1].communicate()
    cluster.processes[0].communicate(timeout=120)
    assert cluster.processes[0].returncode != 0, "the chief must not go on alone"
    (result, errors), _ = start_workers(records_folder, tmp_path / "killed", config_path).finish()
    assert "resuming from" in errors
    assert result["step"] == STEPS
    assert final_tensors(tmp_path / "killed", STEPS) == final_tensors(tmp_path / "uninterrupted", STEPS)


def test_one_process_agrees_with_itself():
    workers = Workers(tf.distribute.get_strategy())
    assert (workers.count, workers.is_chief) == (1, True)
    assert workers.from_chief(7) == 7
    assert workers.any(True)
    assert not workers.any(False)


@pytest.mark.parametrize(
    "tf_config",
    ["{", "[]", "{}", '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}'],
)
def test_a_tf_config_that_is_none_is_refused(monkeypatch, tf_config):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(UserError, match="TF_CONFIG must be like"):
        create_strategy()
