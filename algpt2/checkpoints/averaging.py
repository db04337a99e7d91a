"""The uniform mean of several checkpoints' parameters, written as a checkpoint for evaluation and generation."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from safetensors import safe_open

from algpt2 import storage
from algpt2.checkpoints.folder import MODEL_NAME, STATE_NAME, commit, find_checkpoint
from algpt2.checkpoints.tensor_files import write_tensors
from algpt2.config.model import CONFIG_NAME, load_config
from algpt2.data.tokenizer_files import TOKENIZER_NAME
from algpt2.errors import UserError
from algpt2.storage.files import write_hashed


def average_checkpoints(paths: Sequence[str], output: str) -> dict[str, Any]:
    """Writes the mean of checkpoints' parameters into a new folder; returns its `state.json`.

    The folder is a committed checkpoint without optimizer state: it loads with `checkpoints.load_model`, and no run
    resumes from it.

    Args:
      paths: two or more checkpoints, each a folder of its own or a `--model_dir`, which means its newest.
      output: an empty or new folder, on disk or gs://.

    Raises:
      UserError: fewer than two, a damaged one, different models or tokenizers, or an output that holds files.
    """
    if len(paths) < 2:
        raise UserError(f"--checkpoint must name at least 2 checkpoints to average, received {len(paths)}: name more.")
    folders = [find_checkpoint(path) for path in paths]
    _require_same_kind(folders)
    storage.require_empty(output)
    copies = {name: _read(folders[0], name) for name in (CONFIG_NAME, TOKENIZER_NAME)}
    hashes = {name: write_hashed(storage.join(output, name), data) for name, data in copies.items()}
    model_path = storage.join(output, MODEL_NAME)
    hashes[MODEL_NAME] = write_tensors(model_path, mean_parameters(folders))
    state = {"averaged": [_origin(folder) for folder in folders], "files_sha256": hashes}
    commit(output, state)
    return state


def mean_parameters(folders: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the mean of every parameter over checkpoints of one model, in the parameters' own dtype.

    Sums are float64, so the mean of equal float32 values is that value, whatever their number.
    """
    with contextlib.ExitStack() as stack:
        files = []
        for folder in folders:
            local_file = stack.enter_context(storage.local_copy(storage.join(folder, MODEL_NAME)))
            files.append(stack.enter_context(safe_open(local_file, framework="numpy")))
        return {name: _mean([file.get_tensor(name) for file in files]) for name in sorted(files[0].keys())}


def _mean(tensors: Sequence[np.ndarray]) -> np.ndarray:
    total = np.zeros(tensors[0].shape, np.float64)
    for tensor in tensors:
        total += tensor
    return (total / len(tensors)).astype(tensors[0].dtype)


def _require_same_kind(folders: Sequence[str]) -> None:
    first, *others = folders
    config, tokenizer = load_config(first), _read(first, TOKENIZER_NAME)
    for folder in others:
        if load_config(folder) != config:
            raise UserError(
                f"checkpoints to average must have the same model configuration, and {first} and {folder} differ: "
                "name those of one run."
            )
        if _read(folder, TOKENIZER_NAME) != tokenizer:
            raise UserError(
                f"checkpoints to average must have the same tokenizer, and {first} and {folder} differ: name those of "
                "one run."
            )


def _origin(folder: str) -> dict[str, Any]:
    """What `state.json` says of one of the checkpoints averaged; step and tokens are null for one that is a mean."""
    state_bytes = _read(folder, STATE_NAME)
    state = json.loads(state_bytes)
    return {
        "checkpoint": folder,
        "step": state.get("step"),
        "tokens": state.get("tokens"),
        "state_sha256": hashlib.sha256(state_bytes).hexdigest(),
    }


def _read(folder: str, name: str) -> bytes:
    return storage.read_bytes(storage.join(folder, name))
