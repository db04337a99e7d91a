"""A checkpoint is a folder of safetensors and JSON whose `COMMITTED` marker is written last.

checkpoints/step_00001000/
    model.safetensors       parameters under GPT-2's published names
    optimizer.safetensors   optimizer state as slot/parameter name
    config.json             model config, readable by Hugging Face transformers
    tokenizer.json          so that text goes in and out without another folder
    state.json              step, tokens, configuration, data fingerprint, SHA-256 of every file above
    COMMITTED               written last; a folder without it is ignored
"""

import dataclasses
import hashlib
import json
from typing import Any

import keras
import numpy as np
from absl import logging

from algpt2 import storage
from algpt2.config import CONFIG_NAME, GPTConfig, load_config
from algpt2.errors import UserError
from algpt2.huggingface import config_json
from algpt2.model import GPT
from algpt2.moving_average import unbiased_averages
from algpt2.optimizers import EMA_SLOT, GlobalGradientOptimizer
from algpt2.tensor_files import assign_tensors, file_sha256, read_tensors, write_hashed, write_tensors
from algpt2.tokenizer_files import TOKENIZER_NAME

CHECKPOINTS = "checkpoints"
MODEL_NAME = "model.safetensors"
OPTIMIZER_NAME = "optimizer.safetensors"
STATE_NAME = "state.json"
MARKER_NAME = "COMMITTED"


@dataclasses.dataclass(frozen=True)
class CheckpointState:
    """Where a run stood. `step` counts optimizer updates done, so it is also the number of the next global batch."""

    step: int
    tokens: int
    train_config: dict[str, Any]
    train_fingerprint: str
    n_replicas: int
    skips: dict[str, Any] | None = None
    files_sha256: dict[str, str] = dataclasses.field(default_factory=dict)


def checkpoint_folder(model_dir: str, step: int) -> str:
    """Returns the folder of a run's checkpoint at `step`."""
    return storage.join(model_dir, CHECKPOINTS, f"step_{step:08d}")


def checkpoint_step(folder: str) -> int:
    """Returns the step of a checkpoint's folder."""
    return int(storage.base_name(folder).removeprefix("step_"))


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A copy, on the host, of everything that training changes. It stays as it is while training goes on."""

    model_config: GPTConfig
    parameters: dict[str, np.ndarray]
    optimizer_state: dict[str, np.ndarray]


def take_snapshot(model: GPT, optimizer: GlobalGradientOptimizer) -> Snapshot:
    """Returns a copy of all parameters and all optimizer state."""
    parameters = model.named_parameters()
    return Snapshot(model.config, _copies(parameters), _copies(optimizer.named_state(parameters)))


def save_checkpoint(folder: str, snapshot: Snapshot, state: CheckpointState, tokenizer_json: bytes) -> None:
    """Writes a checkpoint; it counts only once its marker is there."""
    eos_id = json.loads(tokenizer_json)["added_tokens"][-1]["id"]
    config_text = json.dumps(config_json(snapshot.model_config, eos_id), indent=2) + "\n"
    hashes = {
        MODEL_NAME: write_tensors(storage.join(folder, MODEL_NAME), snapshot.parameters),
        OPTIMIZER_NAME: write_tensors(storage.join(folder, OPTIMIZER_NAME), snapshot.optimizer_state),
        CONFIG_NAME: write_hashed(storage.join(folder, CONFIG_NAME), config_text.encode()),
        TOKENIZER_NAME: write_hashed(storage.join(folder, TOKENIZER_NAME), tokenizer_json),
    }
    commit(folder, dataclasses.asdict(dataclasses.replace(state, files_sha256=hashes)))


def commit(folder: str, state: dict[str, Any]) -> None:
    """Writes `state.json`, whose hashes vouch for the other files, and last the marker, which vouches for it."""
    state_text = json.dumps(state, indent=2) + "\n"
    state_hash = write_hashed(storage.join(folder, STATE_NAME), state_text.encode())
    storage.write_text(storage.join(folder, MARKER_NAME), state_hash + "\n")


def committed_checkpoints(model_dir: str) -> list[str]:
    """Returns the folders of a run's committed checkpoints, oldest first."""
    files = storage.of(model_dir).list_files(storage.join(model_dir, CHECKPOINTS))
    return sorted(storage.parent(file) for file in files if storage.base_name(file) == MARKER_NAME)


def newest_intact_checkpoint(model_dir: str) -> str | None:
    """Returns the newest committed checkpoint whose files have the recorded hashes; damaged ones are reported."""
    for folder in reversed(committed_checkpoints(model_dir)):
        if (damage := find_damage(folder)) is None:
            return folder
        logging.warning("%s is damaged (%s); trying the one before it", folder, damage)
    return None


def find_damage(folder: str) -> str | None:
    """Returns what is wrong with a committed checkpoint's files, or None."""
    try:
        state_bytes = storage.read_bytes(storage.join(folder, STATE_NAME))
        marker = storage.read_bytes(storage.join(folder, MARKER_NAME))
        if hashlib.sha256(state_bytes).hexdigest().encode() != marker.strip():
            return f"{STATE_NAME} has another SHA-256 than {MARKER_NAME} says"
        for name, expected in json.loads(state_bytes)["files_sha256"].items():
            if file_sha256(storage.join(folder, name)) != expected:
                return f"{name} has another SHA-256 than {STATE_NAME} says"
    except FileNotFoundError as error:
        return f"{storage.base_name(str(error.filename or error))} is missing"
    return None


def read_state(folder: str) -> CheckpointState:
    """Returns a checkpoint's `state.json`."""
    return CheckpointState(**json.loads(storage.read_text(storage.join(folder, STATE_NAME))))


def restore_checkpoint(folder: str, model: GPT, optimizer: GlobalGradientOptimizer) -> CheckpointState:
    """Sets parameters and optimizer state to a checkpoint's; returns where its run stood.

    Raises:
      UserError: the checkpoint is of another model or optimizer.
    """
    parameters = model.named_parameters()
    _assign(storage.join(folder, MODEL_NAME), parameters)
    _assign(storage.join(folder, OPTIMIZER_NAME), optimizer.named_state(parameters))
    return read_state(folder)


def find_checkpoint(path: str) -> str:
    """Returns the checkpoint that `path` means: itself, or the newest intact one of a run's folder.

    Raises:
      UserError: there is none, or it is damaged.
    """
    if storage.exists(storage.join(path, MARKER_NAME)):
        if damage := find_damage(path):
            raise UserError(
                f"a checkpoint's files must have the recorded SHA-256, and in {path} {damage}: copy it again."
            )
        return path.rstrip("/")
    if folder := newest_intact_checkpoint(path):
        return folder
    if committed := committed_checkpoints(path):
        raise UserError(
            f"a --model_dir must have an intact checkpoint, and all of {path} are damaged, the newest in that "
            f"{find_damage(committed[-1])}: copy it again."
        )
    raise UserError(
        f"--checkpoint must be a committed checkpoint or a --model_dir with one, and {path} has no {MARKER_NAME}."
    )


def load_model(folder: str, dtype: str = "float32", ema: bool = False) -> GPT:
    """Returns the model of a checkpoint, for evaluation or generation.

    Args:
      folder: of the checkpoint.
      dtype: policy of the computation.
      ema: whether to take the moving average of the weights instead of the last ones.

    Raises:
      UserError: the checkpoint is damaged in a way its hashes do not tell, or was trained without `ema_decay`.
    """
    model = GPT(load_config(folder), dtype=dtype)
    if not ema:
        _assign(storage.join(folder, MODEL_NAME), model.named_parameters())
        return model
    decay = read_state(folder).train_config.get("ema_decay") if _is_of_a_run(folder) else None
    if not decay:
        raise UserError(
            f"--ema needs a checkpoint of a run with --ema_decay, and {folder} has no average: leave it out."
        )
    state = read_tensors(storage.join(folder, OPTIMIZER_NAME))
    averages = {name: state[f"{EMA_SLOT}/{name}"] for name in model.named_parameters()}
    assign_tensors(unbiased_averages(averages, decay, int(state["iterations"])), model.named_parameters(), folder)
    return model


def _is_of_a_run(folder: str) -> bool:
    """A mean of checkpoints has no optimizer state."""
    return storage.exists(storage.join(folder, OPTIMIZER_NAME))


def delete_old_checkpoints(model_dir: str, keep: int, keep_every_steps: int = 0) -> None:
    """Deletes all but the `keep` newest committed checkpoints and those of every `keep_every_steps` (0: of none).

    Each one's marker goes first, so that no half deleted checkpoint counts.
    """
    for folder in committed_checkpoints(model_dir)[:-keep]:
        if keep_every_steps and checkpoint_step(folder) % keep_every_steps == 0:
            continue
        storage.of(folder).delete_file(storage.join(folder, MARKER_NAME))
        storage.of(folder).delete_folder(folder)


def delete_unfinished_checkpoints(model_dir: str) -> None:
    """Deletes what a killed run left half written below `checkpoints/`."""
    files = storage.of(model_dir).list_files(storage.join(model_dir, CHECKPOINTS))
    for folder in {storage.parent(file) for file in files} - set(committed_checkpoints(model_dir)):
        logging.info("deleting the unfinished checkpoint %s", folder)
        storage.of(folder).delete_folder(folder)


def _copies(variables: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    """A variable's own `numpy()` may be a view of memory that the next step overwrites."""
    return {name: np.array(variable.numpy(), order="C") for name, variable in variables.items()}


def _assign(path: str, variables: dict[str, keras.Variable]) -> None:
    assign_tensors(read_tensors(path), variables, path)
