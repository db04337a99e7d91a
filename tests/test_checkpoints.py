import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2 import checkpoints
from algpt2.checkpoints import CheckpointState, checkpoint_folder
from algpt2.config import load_config
from algpt2.errors import UserError
from algpt2.model import GPT
from algpt2.train_config import TrainConfig
from algpt2.train_step import create_optimizer

TOKENIZER_JSON = json.dumps({"added_tokens": [{"id": 63, "content": "<|endoftext|>"}]}).encode()
CONFIG = TrainConfig(total_steps=3, optimizer="adafactor", min_dim_size_to_factor=16)


def model_and_optimizer(model_config=ALGPT2_CONFIG, seed=0, config=CONFIG):
    model = GPT(model_config, seed=seed)
    return model, create_optimizer(config, model)


def randomise(model, optimizer):
    rng = np.random.default_rng(5)
    for variable in (*model.named_parameters().values(), *optimizer.variables):
        variable.assign(rng.integers(100, size=variable.shape).astype(variable.dtype))


def save(model_dir, step=7, seed=0):
    model, optimizer = model_and_optimizer(seed=seed)
    randomise(model, optimizer)
    state = CheckpointState(step, 10 * step, CONFIG.to_dict(), "abc", 1)
    folder = checkpoint_folder(str(model_dir), step)
    checkpoints.save_checkpoint(folder, checkpoints.take_snapshot(model, optimizer), state, TOKENIZER_JSON)
    return folder, model, optimizer


def test_a_checkpoint_brings_back_every_parameter_and_all_optimizer_state(tmp_path):
    folder, model, optimizer = save(tmp_path)
    restored_model, restored_optimizer = model_and_optimizer(seed=1)
    state = checkpoints.restore_checkpoint(folder, restored_model, restored_optimizer)
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
    assert np.array_equal(checkpoints.load_model(folder).get_weights()[0], model.get_weights()[0])


def test_a_checkpoint_without_its_marker_does_not_exist(tmp_path):
    older, *_ = save(tmp_path, 1)
    newer, *_ = save(tmp_path, 2)
    (Path(newer) / "COMMITTED").unlink()
    assert checkpoints.newest_intact_checkpoint(str(tmp_path)) == older
    checkpoints.delete_unfinished_checkpoints(str(tmp_path))
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
    assert name in checkpoints.find_damage(newer)
    assert checkpoints.newest_intact_checkpoint(str(tmp_path)) == older
    with pytest.raises(UserError, match="SHA-256"):
        checkpoints.find_checkpoint(newer)


def test_a_missing_file_counts_as_damage(tmp_path):
    folder, *_ = save(tmp_path)
    (Path(folder) / "model.safetensors").unlink()
    assert "model.safetensors is missing" in checkpoints.find_damage(folder)
    assert checkpoints.newest_intact_checkpoint(str(tmp_path)) is None


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    folders = [save(tmp_path, step)[0] for step in (1, 2, 10)]
    checkpoints.delete_old_checkpoints(str(tmp_path), keep=2)
    assert checkpoints.committed_checkpoints(str(tmp_path)) == folders[1:]
    assert not Path(folders[0]).exists()


def test_a_runs_folder_stands_for_its_newest_checkpoint(tmp_path):
    save(tmp_path, 1)
    newest, *_ = save(tmp_path, 2)
    assert checkpoints.find_checkpoint(str(tmp_path)) == newest
    assert checkpoints.find_checkpoint(newest + "/") == newest


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no COMMITTED"):
        checkpoints.find_checkpoint(str(tmp_path))


def test_a_checkpoint_of_another_model_or_optimizer_is_refused(tmp_path):
    folder, *_ = save(tmp_path)
    with pytest.raises(UserError, match="this model's tensors"):
        checkpoints.restore_checkpoint(folder, *model_and_optimizer(GPT2_CONFIG))
    with pytest.raises(UserError, match="must have shape"):
        checkpoints.restore_checkpoint(folder, *model_and_optimizer(dataclasses.replace(ALGPT2_CONFIG, vocab_size=65)))
    with pytest.raises(UserError, match="this model's tensors"):
        checkpoints.restore_checkpoint(folder, *model_and_optimizer(config=TrainConfig(total_steps=3)))
