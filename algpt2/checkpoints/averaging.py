"""The uniform mean of several checkpoints' parameters, written as a checkpoint for evaluation and generation."""

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors import safe_open

from algpt2 import storage
from algpt2.checkpoints.folder import MODEL_NAME, STATE_NAME, Checkpoint, commit, find_checkpoint
from algpt2.checkpoints.tensor_files import write_tensors
from algpt2.config.model_files import CONFIG_NAME, load_config
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.text.tokenizer_files import TOKENIZER_NAME


def average_checkpoints(paths: Sequence[str], output: str) -> dict[str, Any]:
    """Writes the mean of checkpoints' parameters into a new folder; returns its `state.json`.

    The folder is a committed checkpoint without optimizer state: `load_model` loads it, and no run
    resumes from it.

    Args:
      paths: two or more checkpoints, each a folder of its own or a `--model_dir`, which means its newest.
      output: an empty or new folder, on disk or gs://.

    Raises:
      UserError: fewer than two, a damaged one, different models or tokenizers, or an output that holds files.
    """
    if len(paths) < 2:
        raise UserError(f"--checkpoint must name at least 2 checkpoints to average, received {len(paths)}: name more.")
    checkpoints = [find_checkpoint(path) for path in paths]
    _require_same_kind(checkpoints)
    storage.require_empty(output)
    copied = {name: checkpoints[0].read_bytes(name) for name in (CONFIG_NAME, TOKENIZER_NAME)}
    hashes = {name: storage.write_hashed(storage.join(output, name), data) for name, data in copied.items()}
    hashes[MODEL_NAME] = write_tensors(storage.join(output, MODEL_NAME), mean_parameters(checkpoints))
    state = {"averaged": [_origin(checkpoint) for checkpoint in checkpoints], "files_sha256": hashes}
    commit(output, state)
    return state


def mean_parameters(checkpoints: Sequence[Checkpoint]) -> dict[str, np.ndarray]:
    """Returns the mean of every parameter over checkpoints of one model, by name, in the parameters' own dtype.

    Sums are float64, so the mean of equal float32 values is that value, whatever their number. One tensor of each
    checkpoint is in memory at a time.
    """
    with contextlib.ExitStack() as stack:
        local_files = [checkpoint.local_file(MODEL_NAME) for checkpoint in checkpoints]
        files = [stack.enter_context(safe_open(file, framework="numpy")) for file in local_files]
        return {name: _mean([file.get_tensor(name) for file in files]) for name in sorted(files[0].keys())}


def _mean(tensors: Sequence[np.ndarray]) -> np.ndarray:
    total = np.zeros(tensors[0].shape, np.float64)
    for tensor in tensors:
        total += tensor
    return (total / len(tensors)).astype(tensors[0].dtype)


def _require_same_kind(checkpoints: Sequence[Checkpoint]) -> None:
    first, *others = checkpoints
    config, tokenizer = load_config(first.folder), first.read_bytes(TOKENIZER_NAME)
    for other in others:
        if load_config(other.folder) != config:
            raise UserError(
                f"checkpoints to average must have the same model configuration, and {first} and {other} differ: "
                "name those of one run."
            )
        if other.read_bytes(TOKENIZER_NAME) != tokenizer:
            raise UserError(
                f"checkpoints to average must have the same tokenizer, and {first} and {other} differ: name those of "
                "one run."
            )


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    """Returns which checkpoint was averaged. Step and tokens are None for one that is a mean itself."""
    state_bytes = checkpoint.read_bytes(STATE_NAME)
    state = json_files.parse_object(state_bytes)
    return {
        "checkpoint": checkpoint.folder,
        "step": state.get("step"),
        "tokens": state.get("tokens"),
        "state_sha256": hashlib.sha256(state_bytes).hexdigest(),
    }
