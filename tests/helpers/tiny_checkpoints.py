"""Checkpoints of tiny models, written without training."""

import json

import numpy as np
from tiny_models import ALGPT2_CONFIG

from algpt2.checkpoints.folder import CheckpointState, checkpoint_folder
from algpt2.checkpoints.save_load import Snapshot, save_checkpoint, take_snapshot
from algpt2.config.training import TrainConfig
from algpt2.model.gpt import GPT
from algpt2.optim.create import create_optimizer

TOKENIZER = {"added_tokens": [{"id": 63, "content": "<|endoftext|>"}]}
TOKENIZER_JSON = json.dumps(TOKENIZER).encode()
TRAIN_CONFIG = TrainConfig(total_steps=3, optimizer="adafactor", min_dim_size_to_factor=16)


def model_and_optimizer(model_config=ALGPT2_CONFIG, seed=0, config=TRAIN_CONFIG):
    """Returns a new model and the optimizer built for it."""
    model = GPT(model_config, seed=seed)
    return model, create_optimizer(config, model)


def save_step(model_dir, step=7, seed=0):
    """Writes a run's checkpoint of random parameters and optimizer state; returns its folder, model and optimizer."""
    model, optimizer = model_and_optimizer(seed=seed)
    rng = np.random.default_rng(5 + seed)
    for variable in (*model.named_parameters().values(), *optimizer.variables):
        variable.assign(rng.integers(100, size=variable.shape).astype(variable.dtype))
    state = CheckpointState(step, 10 * step, TRAIN_CONFIG.to_dict(), "abc", 1)
    folder = checkpoint_folder(str(model_dir), step)
    save_checkpoint(folder, take_snapshot(model, optimizer), state, TOKENIZER_JSON)
    return folder, model, optimizer


def save_random(folder, seed, config=ALGPT2_CONFIG, tokenizer=TOKENIZER):
    """Writes a checkpoint whose parameters are all random; returns them and its folder."""
    rng = np.random.default_rng(seed)
    shapes = {name: tuple(p.shape) for name, p in GPT(config).named_parameters().items()}
    parameters = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return parameters, _save(folder, Snapshot(config, parameters, {}), seed, json.dumps(tokenizer))


def save_initial(folder, config, tokenizer_json):
    """Writes a checkpoint of a new model; returns its folder."""
    parameters = {name: parameter.numpy() for name, parameter in GPT(config).named_parameters().items()}
    return _save(folder, Snapshot(config, parameters, {}), 1, tokenizer_json)


def _save(folder, snapshot, step, tokenizer_json):
    state = CheckpointState(step, 10 * step, {}, "abc", 1)
    save_checkpoint(str(folder), snapshot, state, tokenizer_json.encode())
    return str(folder)
