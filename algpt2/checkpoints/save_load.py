"""From a model and its optimizer to a checkpoint's folder, and back."""

import dataclasses
import json

import keras
import numpy as np

from algpt2 import storage
from algpt2.checkpoints.folder import (
    MODEL_NAME,
    OPTIMIZER_NAME,
    CheckpointState,
    commit,
    has_optimizer_state,
    read_state,
)
from algpt2.checkpoints.huggingface_config import config_json
from algpt2.checkpoints.tensor_files import assign_tensors, read_tensors, write_tensors
from algpt2.config.model import CONFIG_NAME, GPTConfig, load_config
from algpt2.data.tokenizer_files import TOKENIZER_NAME
from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.optim.base import EMA_SLOT, GlobalGradientOptimizer
from algpt2.optim.moving_average import unbiased_averages
from algpt2.storage.files import write_hashed


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


def restore_checkpoint(folder: str, model: GPT, optimizer: GlobalGradientOptimizer) -> CheckpointState:
    """Sets parameters and optimizer state to a checkpoint's; returns where its run stood.

    Raises:
      UserError: the checkpoint is of another model or optimizer.
    """
    parameters = model.named_parameters()
    _assign(storage.join(folder, MODEL_NAME), parameters)
    _assign(storage.join(folder, OPTIMIZER_NAME), optimizer.named_state(parameters))
    return read_state(folder)


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
    decay = read_state(folder).train_config.get("ema_decay") if has_optimizer_state(folder) else None
    if not decay:
        raise UserError(
            f"--ema needs a checkpoint of a run with --ema_decay, and {folder} has no average: leave it out."
        )
    state = read_tensors(storage.join(folder, OPTIMIZER_NAME))
    averages = {name: state[f"{EMA_SLOT}/{name}"] for name in model.named_parameters()}
    assign_tensors(unbiased_averages(averages, decay, int(state["iterations"])), model.named_parameters(), folder)
    return model


def _copies(variables: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
    """A variable's own `numpy()` may be a view of memory that the next step overwrites."""
    return {name: np.array(variable.numpy(), order="C") for name, variable in variables.items()}


def _assign(path: str, variables: dict[str, keras.Variable]) -> None:
    assign_tensors(read_tensors(path), variables, path)
