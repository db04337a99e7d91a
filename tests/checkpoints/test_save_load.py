import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import TOKENIZER_JSON, TRAIN_CONFIG, model_and_optimizer
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.checkpoints.folder import (
    CheckpointState,
    checkpoint_folder,
    committed_checkpoints,
    delete_old_checkpoints,
    delete_unfinished_checkpoints,
    find_checkpoint,
    find_damage,
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
    model, optimizer = model_and_optimizer(seed=seed)
    randomise(model, optimizer)
    state = CheckpointState(step, 10 * step, TRAIN_CONFIG.to_dict(), "abc", 1)
    folder = checkpoint_folder(str(model_dir), step)
    save_checkpoint(folder, take_snapshot(model, optimizer), state, TOKENIZER_JSON)
    return folder, model, optimizer


def test_a_checkpoint_brings_back_every_parameter_and_all_optimizer_state(tmp_path):
    folder, model, optimizer = save(tmp_path)
    restored_model, restored_optimizer = model_and_optimizer(seed=1)
    state = restore_checkpoint(folder, restored_model, restored_optimizer)
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
    assert newest_intact_checkpoint(str(tmp_path)) == older
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
    assert name in find_damage(newer)
    assert newest_intact_checkpoint(str(tmp_path)) == older
    with pytest.raises(UserError, match="SHA-256"):
        find_checkpoint(newer)


def test_a_missing_file_counts_as_damage(tmp_path):
    folder, *_ = save(tmp_path)
    (Path(folder) / "model.safetensors").unlink()
    assert "model.safetensors is missing" in find_damage(folder)
    assert newest_intact_checkpoint(str(tmp_path)) is None


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    folders = [save(tmp_path, step)[0] for step in (1, 2, 10)]
    delete_old_checkpoints(str(tmp_path), keep=2)
    assert committed_checkpoints(str(tmp_path)) == folders[1:]
    assert not Path(folders[0]).exists()


def test_a_runs_folder_stands_for_its_newest_checkpoint(tmp_path):
    save(tmp_path, 1)
    newest, *_ = save(tmp_path, 2)
    assert find_checkpoint(str(tmp_path)) == newest
    assert find_checkpoint(newest + "/") == newest


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no COMMITTED"):
        find_checkpoint(str(tmp_path))


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path):
    folder, *_ = save(tmp_path)
    with pytest.raises(UserError, match="this model's tensors"):
        restore_checkpoint(folder, *model_and_optimizer(GPT2_CONFIG))
    with pytest.raises(UserError, match="must have shape"):
        restore_checkpoint(folder, *model_and_optimizer(dataclasses.replace(ALGPT2_CONFIG, vocab_size=65)))
    with pytest.raises(UserError, match="this model's tensors"):
        restore_checkpoint(folder, *model_and_optimizer(config=TrainConfig(total_steps=3)))
