"""A model and its optimizer: saved, restored bit for bit, and refused where they do not fit."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import model_and_optimizer, save_step
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2 import storage
from algpt2.checkpoints.folder import Checkpoint, newest_intact_checkpoint
from algpt2.checkpoints.save_load import load_model, restore_checkpoint
from algpt2.checkpoints.tensor_files import assign_tensors
from algpt2.config.model_files import load_config
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError


def assert_same(variables, others):
    assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(variables, others, strict=True))


def test_a_checkpoint_brings_back_every_parameter_and_all_optimizer_state(tmp_path):
    folder, model, optimizer = save_step(tmp_path)
    restored_model, restored_optimizer = model_and_optimizer(seed=1)
    state = restore_checkpoint(Checkpoint(folder), restored_model, restored_optimizer)
    assert (state.step, state.tokens, state.n_replicas) == (7, 70, 1)
    assert_same(model.weights, restored_model.weights)
    assert_same(optimizer.variables, restored_optimizer.variables)


def test_a_checkpoint_is_self_describing(tmp_path):
    folder, model, _ = save_step(tmp_path)
    assert {file.name for file in Path(folder).iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "config.json",
        "tokenizer.json",
        "state.json",
        "COMMITTED",
    }
    assert load_config(folder) == ALGPT2_CONFIG
    assert_same(load_model(folder).weights, model.weights)


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path):
    folder, *_ = save_step(tmp_path)
    with pytest.raises(UserError, match="this model's tensors"):
        restore_checkpoint(Checkpoint(folder), *model_and_optimizer(GPT2_CONFIG))
    with pytest.raises(UserError, match="must have shape"):
        restore_checkpoint(Checkpoint(folder), *model_and_optimizer(dataclasses.replace(ALGPT2_CONFIG, vocab_size=65)))
    with pytest.raises(UserError, match="this model's tensors"):
        restore_checkpoint(Checkpoint(folder), *model_and_optimizer(config=TrainConfig(total_steps=3)))


@pytest.fixture
def downloads(monkeypatch):
    """Counts how often each object on Cloud Storage is downloaded, by the object's name."""
    from algpt2.storage.cloud import CloudStorage

    counts, open_read = Counter(), CloudStorage.open_read

    def counted(self, path):
        counts[storage.base_name(path)] += 1
        return open_read(self, path)

    monkeypatch.setattr(CloudStorage, "open_read", counted)
    return counts


def test_a_checkpoint_on_cloud_storage_is_checked_and_restored_with_one_download(bucket, tmp_path, downloads):
    _, model, optimizer = save_step(f"{bucket}/{tmp_path.name}")
    downloads.clear()
    restored_model, restored_optimizer = model_and_optimizer(seed=1)
    checkpoint = newest_intact_checkpoint(f"{bucket}/{tmp_path.name}")
    assert restore_checkpoint(checkpoint, restored_model, restored_optimizer).step == 7
    assert (downloads["model.safetensors"], downloads["optimizer.safetensors"]) == (1, 1)
    assert_same(model.weights, restored_model.weights)
    assert_same(optimizer.variables, restored_optimizer.variables)


def test_a_model_on_cloud_storage_is_checked_and_loaded_with_one_download(bucket, tmp_path, downloads):
    _, model, _ = save_step(f"{bucket}/{tmp_path.name}")
    downloads.clear()
    loaded = load_model(f"{bucket}/{tmp_path.name}")
    assert downloads["model.safetensors"] == 1
    assert_same(model.weights, loaded.weights)


def test_a_path_means_its_newest_intact_checkpoint_to_load_model_too(tmp_path):
    _, model, _ = save_step(tmp_path, 1)
    newer, *_ = save_step(tmp_path, 2, seed=3)
    (Path(newer) / "model.safetensors").write_bytes(b"")
    assert_same(load_model(str(tmp_path)).weights, model.weights)
    with pytest.raises(UserError, match="SHA-256"):
        load_model(newer)


def test_tensors_of_which_one_does_not_fit_change_nothing():
    model, _ = model_and_optimizer()
    parameters = model.named_parameters()
    before = {name: np.array(parameter.numpy()) for name, parameter in parameters.items()}
    tensors = {name: value + 1 for name, value in before.items()}
    last = list(tensors)[-1]
    tensors[last] = tensors[last][:-1]
    with pytest.raises(UserError, match=f"{last} must have shape"):
        assign_tensors(tensors, parameters, "somewhere")
    for name, value in before.items():
        np.testing.assert_array_equal(parameters[name].numpy(), value)
