"""The folder of a checkpoint, whose `COMMITTED` marker is written last.

checkpoints/step_00001000/
    model.safetensors       parameters under GPT-2's published names
    optimizer.safetensors   optimizer state as slot/parameter name
    config.json             model config, readable by Hugging Face transformers
    tokenizer.json          so that text goes in and out without another folder
    state.json              step, tokens, configuration, data fingerprint, SHA-256 of every file above
    COMMITTED               written last; a folder without it is ignored

Names, finding, damage, commit and deletion are here, and nothing that needs Keras.
"""

import dataclasses
import hashlib
import json
from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage.files import file_sha256, write_hashed

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


def has_optimizer_state(folder: str) -> bool:
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
