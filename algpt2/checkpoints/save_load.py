"""From a model and its optimizer to a checkpoint's folder, and back."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

import keras
import numpy as np

from algpt2 import storage
from algpt2.checkpoints.folder import (
    MODEL_NAME,
    OPTIMIZER_NAME,
    Checkpoint,
    CheckpointState,
    commit,
    deleted_on_failure,
    find_checkpoint,
)
from algpt2.checkpoints.huggingface_config import config_json
from algpt2.checkpoints.tensor_files import assign_tensors, read_tensors, write_tensors
from algpt2.config.model import ALIBI, GPTConfig
from algpt2.config.model_files import CONFIG_NAME, load_config
from algpt2.errors import UserError, shown
from algpt2.model.gpt import GPT
from algpt2.optim.base import EMA_SLOT, GlobalGradientOptimizer, host_copies
from algpt2.optim.moving_average import unbiased_averages
from algpt2.text.tokenizer_files import TOKENIZER_NAME, eos_id_of


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A copy, on the host, of everything that training changes. It stays as it is while training goes on."""

    model_config: GPTConfig
    parameters: dict[str, np.ndarray]
    optimizer_state: dict[str, np.ndarray]


def take_snapshot(model: GPT, optimizer: GlobalGradientOptimizer) -> Snapshot:
    """Returns a copy of all parameters and all optimizer state.

    Where the optimizer's state is shared out, every worker of a run must call it, because each holds a part of it. A
    checkpoint has the same variables in any run, on however many replicas.
    """
    parameters = model.named_parameters()
    return Snapshot(model.config, host_copies(parameters), optimizer.copied_state(parameters))


def save_checkpoint(folder: str, snapshot: Snapshot, state: CheckpointState, tokenizer_json: bytes) -> None:
    """Writes a checkpoint; it counts only once its marker is there. If a write fails, nothing of it stays."""
    config_text = json.dumps(config_json(snapshot.model_config, eos_id_of(tokenizer_json)), indent=2) + "\n"
    with deleted_on_failure(folder):
        hashes = {
            MODEL_NAME: write_tensors(storage.join(folder, MODEL_NAME), snapshot.parameters),
            OPTIMIZER_NAME: write_tensors(storage.join(folder, OPTIMIZER_NAME), snapshot.optimizer_state),
            CONFIG_NAME: storage.write_hashed(storage.join(folder, CONFIG_NAME), config_text.encode()),
            TOKENIZER_NAME: storage.write_hashed(storage.join(folder, TOKENIZER_NAME), tokenizer_json),
        }
        commit(folder, dataclasses.asdict(dataclasses.replace(state, files_sha256=hashes)))


def restore_checkpoint(checkpoint: Checkpoint, model: GPT, optimizer: GlobalGradientOptimizer) -> CheckpointState:
    """Sets parameters and optimizer state to a checkpoint's; returns where its run stood.

    Raises:
      UserError: the checkpoint is of another model or optimizer.
    """
    parameters = model.named_parameters()
    _load_into(parameters, checkpoint, MODEL_NAME)
    _load_into(optimizer.named_state(parameters), checkpoint, OPTIMIZER_NAME)
    return checkpoint.read_state()


def load_model(
    checkpoint: Checkpoint | str, dtype: str = "float32", ema: bool = False, seq_len: int | None = None
) -> GPT:
    """Returns the model of a checkpoint, for evaluation or generation.

        model = load_model("runs/algpt2")
        logits = model(np.array([[5, 3, 8]]))  # float32 (1, 3, vocab_size)

    Args:
      checkpoint: what `find_checkpoint` has found, or a path for it: a checkpoint, or a run's folder, which means its
        newest.
      dtype: Keras' name of the dtype policy of the computation. Parameters are float32.
      ema: whether to take the moving average of the weights instead of the last ones.
      seq_len: positions of the model's windows and texts, if not those of its training; it must have ALiBi.

    Raises:
      UserError: there is no such checkpoint, its files do not have the recorded SHA-256, it was trained without
        `ema_decay` and `ema` asks for the average, or it has a table of positions and `seq_len` asks for others.
    """
    if isinstance(checkpoint, str):
        checkpoint = find_checkpoint(checkpoint)
    model = GPT(_with_seq_len(load_config(checkpoint.folder), seq_len), dtype=dtype)
    parameters = model.named_parameters()
    if ema:
        assign_tensors(_averages(checkpoint, parameters), parameters, str(checkpoint))
    else:
        _load_into(parameters, checkpoint, MODEL_NAME)
    return model


def _with_seq_len(config: GPTConfig, seq_len: int | None) -> GPTConfig:
    if seq_len in (None, config.seq_len):
        return config
    if config.n_position_rows:
        raise UserError(
            f"--seq_len must be {config.seq_len} for a model with a table of as many positions, received "
            f"{shown(seq_len)}: leave it out, or take a model with position_encoding {ALIBI}."
        )
    return dataclasses.replace(config, seq_len=seq_len)


def _averages(checkpoint: Checkpoint, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Returns the unbiased moving average of every parameter, by name."""
    decay = checkpoint.read_state().train_config.get("ema_decay") if checkpoint.has_optimizer_state else None
    if not decay:
        raise UserError(
            f"--ema needs a checkpoint of a run with --ema_decay, and {checkpoint} has no average: leave it out."
        )
    state = read_tensors(checkpoint.local_file(OPTIMIZER_NAME))
    averages = {name: state[f"{EMA_SLOT}/{name}"] for name in names}
    return unbiased_averages(averages, decay, int(state["iterations"]))


def _load_into(variables: Mapping[str, keras.Variable], checkpoint: Checkpoint, name: str) -> None:
    assign_tensors(read_tensors(checkpoint.local_file(name)), variables, storage.join(checkpoint.folder, name))
