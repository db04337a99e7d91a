import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import TOKENIZER_JSON, TRAIN_CONFIG, model_and_optimizer
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2 import storage
from algpt2.checkpoints.folder import (
    Checkpoint,
    CheckpointState,
    checkpoint_folder,
    committed_checkpoints,
    delete_old_checkpoints,
    delete_unfinished_checkpoints,
    find_checkpoint,
    newest_intact_checkpoint,
)
from algpt2.checkpoints.save_load import load_model, restore_checkpoint, save_checkpoint, take_snapshot
from algpt2.config.model import load_config
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError


def randomise(model, optimizer):
    rng = np.random.default_rng(5)
    for variable in (*model.named_parameters().values(), *optimizer.variables):
        variable.assign(rng.integers(100, size=variable.shape).astype(variable.dtype))


def save(model_dir, step=7, seed=0):
    """Writes a checkpoint of random parameters and optimizer state; returns its folder, the model and the optimizer."""
    model, optimizer = model_and_optimizer(seed=seed)
    randomise(model, optimizer)
    state = CheckpointState(step, 10 * step, TRAIN_CONFIG.to_dict(), "abc", 1)
    folder = checkpoint_folder(str(model_dir), step)
    save_checkpoint(folder, take_snapshot(model, optimizer), state, TOKENIZER_JSON)
    return folder, model, optimizer


def test_a_checkpoint_brings_back_every_parameter_and_all_optimizer_state(tmp_path):
    folder, model, optimizer = save(tmp_path)
    restored_model, restored_optimizer = model_and_optimizer(seed=1)
    state = restore_checkpoint(Checkpoint(folder), restored_model, restored_optimizer)
    assert (state.step, state.tokens, state.n_replicas) == (7, 70, 1)
    for mine, theirs in (
        (model.get_weights(), restored_model.get_weights()),
        ([v.numpy() for v in optimizer.variables], [v.numpy() for v in restored_optimizer.variables]),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_checkpoint_is_self_describing(tmp_path):
    folder, model, _ = save(tmp_path)
    assert {file.name for file in Path(folder).iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "config.json",
        "tokenizer.json",
        "state.json",
        "COMMITTED",
    }
    assert load_config(folder) == ALGPT2_CONFIG
    assert np.array_equal(load_model(folder).get_weights()[0], model.get_weights()[0])


def test_a_checkpoint_without_its_marker_does_not_exist(tmp_path):
    older, *_ = save(tmp_path, 1)
    newer, *_ = save(tmp_path, 2)
    (Path(newer) / "COMMITTED").unlink()
    assert newest_intact_checkpoint(str(tmp_path)).folder == older
    delete_unfinished_checkpoints(str(tmp_path))
    assert not Path(newer).exists()
    assert Path(older).exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "config.json", "state.json"])
def test_a_flipped_bit_is_found_and_the_checkpoint_before_is_taken(tmp_path, name):
    older, *_ = save(tmp_path, 1)
    newer, *_ = save(tmp_path, 2)
    file = Path(newer) / name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert name in Checkpoint(newer).find_damage()
    assert newest_intact_checkpoint(str(tmp_path)).folder == older
    with pytest.raises(UserError, match="SHA-256"):
        find_checkpoint(newer)


def test_a_missing_file_counts_as_damage(tmp_path):
    folder, *_ = save(tmp_path)
    (Path(folder) / "model.safetensors").unlink()
    assert "model.safetensors is missing" in Checkpoint(folder).find_damage()
    assert newest_intact_checkpoint(str(tmp_path)) is None


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    folders = [save(tmp_path, step)[0] for step in (1, 2, 10)]
    delete_old_checkpoints(str(tmp_path), keep=2)
    assert committed_checkpoints(str(tmp_path)) == folders[1:]
    assert not Path(folders[0]).exists()


def test_a_runs_folder_stands_for_its_newest_checkpoint(tmp_path):
    save(tmp_path, 1)
    newest, *_ = save(tmp_path, 2)
    assert find_checkpoint(str(tmp_path)).folder == newest
    assert find_checkpoint(newest + "/").folder == newest


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no COMMITTED"):
        find_checkpoint(str(tmp_path))


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path):
    folder, *_ = save(tmp_path)
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


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_checkpoint_on_cloud_storage_is_checked_and_restored_with_one_download(bucket, tmp_path, downloads, name):
    _, model, optimizer = save(f"{bucket}/{tmp_path.name}")
    downloads.clear()
    restored_model, restored_optimizer = model_and_optimizer(seed=1)
    checkpoint = newest_intact_checkpoint(f"{bucket}/{tmp_path.name}")
    assert restore_checkpoint(checkpoint, restored_model, restored_optimizer).step == 7
    assert downloads[name] == 1
    for mine, theirs in (
        (model.get_weights(), restored_model.get_weights()),
        ([v.numpy() for v in optimizer.variables], [v.numpy() for v in restored_optimizer.variables]),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_model_on_cloud_storage_is_checked_and_loaded_with_one_download(bucket, tmp_path, downloads):
    _, model, _ = save(f"{bucket}/{tmp_path.name}")
    downloads.clear()
    loaded = load_model(f"{bucket}/{tmp_path.name}")
    assert downloads["model.safetensors"] == 1
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True))


def test_damage_on_cloud_storage_is_found(bucket, tmp_path):
    folder, *_ = save(f"{bucket}/{tmp_path.name}")
    data = storage.read_bytes(f"{folder}/model.safetensors")
    storage.write_bytes(f"{folder}/model.safetensors", data[:-1] + bytes([data[-1] ^ 1]))
    assert "model.safetensors has another SHA-256" in Checkpoint(folder).find_damage()
    storage.of(folder).delete_file(f"{folder}/config.json")
    assert Checkpoint(folder).find_damage() is not None
    storage.write_bytes(f"{folder}/model.safetensors", data)
    assert "config.json is missing" in Checkpoint(folder).find_damage()


def test_a_path_means_its_newest_intact_checkpoint_to_load_model_too(tmp_path):
    older, model, _ = save(tmp_path, 1)
    newer, *_ = save(tmp_path, 2, seed=3)
    (Path(newer) / "model.safetensors").write_bytes(b"")
    assert np.array_equal(load_model(str(tmp_path)).get_weights()[0], model.get_weights()[0])
    with pytest.raises(UserError, match="SHA-256"):
        load_model(newer)


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"step": "7"}, 'its step is "7"'), ({"steps": 7}, "unknown keys"), ({"files_sha256": {"a": 1}}, "sha256.a is 1")],
)
def test_a_state_of_another_kind_is_refused(tmp_path, changes, found):
    folder, *_ = save(tmp_path)
    path = Path(folder) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=f"{path} must say where a run stood, and .*{found}"):
        Checkpoint(folder).read_state()


def test_a_state_of_before_skips_were_kept_is_read(tmp_path):
    folder, *_ = save(tmp_path)
    path = Path(folder) / "state.json"
    fields = json.loads(path.read_text())
    del fields["skips"]
    path.write_text(json.dumps(fields))
    assert Checkpoint(folder).read_state().skips is None
