"""Optimizer state that is shared out to replicas: the same parameters and the same checkpoints as without."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sharded_steps
from places import REPOSITORY
from safetensors import numpy as safetensors
from sharded_steps import make_steps
from tiny_step import ONE, TWO, strategy_of

from algpt2.checkpoints.save_load import load_model
from algpt2.config.training import SHARDED_OPTIMIZERS
from algpt2.optim.adamw import AdamW
from algpt2.optim.moving_average import averaged_weights
from algpt2.optim.muon import Muon
from algpt2.optim.sharded import ShardedAdamW
from algpt2.optim.sharded_muon import ShardedMuon

FILES = ("model.safetensors", "optimizer.safetensors")
# Muon orthogonalises several matrices in one product, which rounds otherwise than one matrix does.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three steps of each optimizer on one device, and then two more, with the whole state on it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for optimizer in SHARDED_OPTIMIZERS:
        one = strategy_of(ONE)
        make_steps(one, folder, f"{optimizer} 3", optimizer=optimizer)
        make_steps(one, folder, f"{optimizer} 5", f"{optimizer} 3", 3, 2, optimizer=optimizer)
    return folder


@pytest.fixture(scope="module")
def four(folder):
    """The same on four devices, which begin with nothing, and with what one device has saved after three steps."""
    first = [{"optimizer": one, "name": f"four, {one} 3"} for one in SHARDED_OPTIMIZERS]
    then = [
        {"optimizer": one, "name": f"four, {one} 5", "begin_with": f"{one} 3", "first_step": 3, "n_steps": 2}
        for one in SHARDED_OPTIMIZERS
    ]
    program = str(REPOSITORY / "tests/helpers/sharded_steps.py")
    command = [sys.executable, program, str(folder), json.dumps(first + then)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return folder


def tensors(folder, name):
    """Returns all parameters and all optimizer state of a checkpoint."""
    return {
        f"{file}/{key}": tensor
        for file in FILES
        for key, tensor in safetensors.load((Path(folder, name) / file).read_bytes()).items()
    }


def require_close(folder, name, other):
    """Compares the parameters, and each slot of the optimizer, as one vector."""
    found, expected = tensors(folder, name), tensors(folder, other)
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in expected.items()}
    for slot in {key.rpartition("/")[0] for key in expected}:
        keys = sorted(key for key in expected if key.rpartition("/")[0] == slot)
        vector, wanted = (np.concatenate([one[key].ravel() for key in keys]) for one in (found, expected))
        assert np.linalg.norm(vector - wanted) <= TOLERANCE * np.linalg.norm(wanted), slot


@pytest.mark.parametrize("optimizer", SHARDED_OPTIMIZERS)
def test_two_devices_that_share_the_state_out_end_as_two_that_do_not(folder, optimizer):
    """To the bit for AdamW, whose arithmetic is the same for each element."""
    two = strategy_of(TWO)
    make_steps(two, folder, f"two, whole {optimizer}", optimizer=optimizer)
    make_steps(two, folder, f"two, {optimizer}", optimizer=optimizer, shard_optimizer_state=True)
    require_close(folder, f"two, {optimizer}", f"two, whole {optimizer}")
    if optimizer == "adamw":
        found, expected = tensors(folder, f"two, {optimizer}"), tensors(folder, f"two, whole {optimizer}")
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value, key)


@pytest.mark.parametrize("optimizer", SHARDED_OPTIMIZERS)
def test_four_devices_that_share_the_state_out_save_what_one_device_saves(four, optimizer):
    """Two of Muon's matrices have a shape of their own, so that two of the four devices have none of them."""
    require_close(four, f"four, {optimizer} 3", f"{optimizer} 3")


@pytest.mark.parametrize("optimizer", SHARDED_OPTIMIZERS)
def test_a_checkpoint_goes_from_one_device_to_four_and_from_four_to_two_and_to_one(four, optimizer):
    require_close(four, f"four, {optimizer} 5", f"{optimizer} 5")
    begin_with = f"four, {optimizer} 3"
    for devices, is_sharded in ((ONE, False), (TWO, True), (TWO, False)):
        name = f"{devices}, {is_sharded}, {optimizer}"
        settings = {"optimizer": optimizer, "shard_optimizer_state": is_sharded}
        make_steps(strategy_of(devices), four, name, begin_with, 3, 2, **settings)
        require_close(four, name, f"{optimizer} 5")


@pytest.mark.parametrize("optimizer", SHARDED_OPTIMIZERS)
def test_a_replica_of_two_keeps_half_of_the_state(tmp_path, optimizer):
    step = make_steps(strategy_of(TWO), tmp_path, "saved", optimizer=optimizer, shard_optimizer_state=True)
    saved = safetensors.load((tmp_path / "saved" / "optimizer.safetensors").read_bytes())
    # Every parameter of this model has an even size, and every shape of matrices an even number of them.
    assert step.optimizer.state_bytes() == 4 * sum(math.prod(one.shape) for one in saved.values()) // 2 - 2


@pytest.mark.parametrize(
    ("optimizer", "whole", "shared"), [("adamw", AdamW, ShardedAdamW), ("muon", Muon, ShardedMuon)]
)
def test_one_replica_has_nothing_to_share_out(tmp_path, optimizer, whole, shared):
    for devices, kind in ((ONE, whole), (TWO, shared)):
        settings = {"optimizer": optimizer, "shard_optimizer_state": True}
        step = make_steps(strategy_of(devices), tmp_path, devices, n_steps=1, **settings)
        assert type(step.optimizer) is kind


@pytest.mark.parametrize("is_sharded", [False, True])
def test_the_moving_average_of_two_devices_takes_the_weights_place_as_that_of_their_checkpoint_does(
    tmp_path, is_sharded
):
    step = make_steps(strategy_of(TWO), tmp_path, "saved", n_steps=2, shard_optimizer_state=is_sharded)
    expected = load_model(str(tmp_path / "saved"), ema=True).named_parameters()
    with averaged_weights(step.model, step.optimizer):
        for name, parameter in step.model.named_parameters().items():
            np.testing.assert_array_equal(parameter.numpy(), expected[name].numpy(), name)


def test_the_settings_leave_room_for_a_clip_and_a_moving_average():
    """Without them the tests above could not see a part that one of them misses."""
    assert sharded_steps.CONFIG.ema_decay
    assert sharded_steps.CONFIG.clip_norm
    assert sharded_steps.CONFIG.weight_decay
