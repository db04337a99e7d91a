"""The folder of a checkpoint, whose marker `COMMITTED` is written last.

checkpoints/step_00001000/
    model.safetensors       parameters under GPT-2's published names
    optimizer.safetensors   optimizer state as slot/parameter name
    config.json             model config, readable by Hugging Face transformers
    tokenizer.json          so that text goes in and out without another folder
    state.json              step, tokens, configuration, data fingerprint, SHA-256 of every file above
    COMMITTED               SHA-256 of state.json; a folder without this file is ignored

This module names, finds, checks, commits and deletes checkpoints. It never imports Keras or TensorFlow, so that
commands which load no model start at once.
"""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.config.model_files import CONFIG_NAME
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.storage.local import TEMPORARY_PREFIX
from algpt2.storage.patience import trying_for
from algpt2.text.tokenizer_files import TOKENIZER_NAME

CHECKPOINTS = "checkpoints"
MODEL_NAME = "model.safetensors"
OPTIMIZER_NAME = "optimizer.safetensors"
STATE_NAME = "state.json"
MARKER_NAME = "COMMITTED"
FILE_NAMES = {MODEL_NAME, OPTIMIZER_NAME, CONFIG_NAME, TOKENIZER_NAME, STATE_NAME, MARKER_NAME}
DELETION_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class CheckpointState:
    """`state.json` of a run's checkpoint: where the run stood.

    `step` counts the optimizer updates done, so it is also the number of the next global batch. `tokens` counts the
    target tokens of those updates. `skips` is what the skipping of spikes must remember; checkpoints that were written
    before there was such a thing have none.
    """

    step: int
    tokens: int
    train_config: dict[str, Any]
    train_fingerprint: str
    n_replicas: int
    skips: dict[str, Any] | None = None
    files_sha256: dict[str, str] = dataclasses.field(default_factory=dict)


class Checkpoint:
    """A committed checkpoint that is open for reading. In messages it reads as its folder.

    A file on Cloud Storage is downloaded once, when it is first asked for, whether to be checked or to be loaded, and
    `LocalCopies` deletes the copies.
    """

    def __init__(self, folder: str):
        self.folder = storage.trim(folder)
        self._copies = storage.LocalCopies()

    def __str__(self) -> str:
        return self.folder

    @property
    def step(self) -> int:
        """The number of optimizer updates done, as the name of the folder says it."""
        return checkpoint_step(self.folder)

    @property
    def has_optimizer_state(self) -> bool:
        """Whether a run can resume from it; a mean of checkpoints has no optimizer state."""
        return storage.exists(storage.join(self.folder, OPTIMIZER_NAME))

    def local_file(self, name: str) -> str:
        """Returns the path, on this machine, of one of the checkpoint's files or of its copy."""
        return self._copies.file(storage.join(self.folder, name))

    def read_bytes(self, name: str) -> bytes:
        """Returns one of the checkpoint's files."""
        return storage.read_bytes(self.local_file(name))

    def read_state(self) -> CheckpointState:
        """Returns where the run stood.

        Raises:
          UserError: `state.json` is not that of a run's checkpoint.
        """
        path = storage.join(self.folder, STATE_NAME)
        with json_files.refusing(path, "say where a run stood", "name a checkpoint of a run"):
            return json_files.build(CheckpointState, json_files.parse_object(self.read_bytes(STATE_NAME)))

    def find_damage(self) -> str | None:
        """Returns what is wrong with the files, or None if all have the SHA-256 recorded when they were written."""
        try:
            state_sha256 = storage.file_sha256(self.local_file(STATE_NAME))
            if state_sha256.encode() != self.read_bytes(MARKER_NAME).strip():
                return f"{STATE_NAME} has another SHA-256 than {MARKER_NAME} says"
            for name, expected in json_files.parse_object(self.read_bytes(STATE_NAME))["files_sha256"].items():
                if storage.file_sha256(self.local_file(name)) != expected:
                    return f"{name} has another SHA-256 than {STATE_NAME} says"
        except FileNotFoundError as error:
            return f"{storage.base_name(str(error.filename or error))} is missing"
        return None


def checkpoint_folder(model_dir: str, step: int) -> str:
    """Returns the folder of a run's checkpoint at `step`."""
    return storage.join(model_dir, CHECKPOINTS, f"step_{step:08d}")


def checkpoint_step(folder: str) -> int:
    """Returns the step of a checkpoint's folder."""
    return int(storage.base_name(folder).removeprefix("step_"))


def _is_checkpoint_name(name: str) -> bool:
    """Returns whether a checkpoint of a run is ever named so: `step_` and the step, filled up to eight digits."""
    digits = re.fullmatch("step_([0-9]{8,})", name)
    return digits is not None and name == f"step_{int(digits[1]):08d}"


def commit(folder: str, state: dict[str, Any]) -> None:
    """Writes `state.json`, whose hashes vouch for the other files, and then the marker, which vouches for it."""
    state_text = json.dumps(state, indent=2) + "\n"
    state_sha256 = storage.write_hashed(storage.join(folder, STATE_NAME), state_text.encode())
    storage.write_text(storage.join(folder, MARKER_NAME), state_sha256 + "\n")


def committed_checkpoints(model_dir: str) -> list[str]:
    """Returns the folders of a run's committed checkpoints, oldest first. What has another name is none."""
    present = _files_by_name(model_dir)
    names = [name for name, files in present.items() if MARKER_NAME in files and _is_checkpoint_name(name)]
    return [checkpoint_folder(model_dir, step) for step in sorted(map(checkpoint_step, names))]


def _files_by_name(model_dir: str) -> dict[str, set[str]]:
    """Returns, for each name right in a run's `checkpoints`, the files below it by their paths from there."""
    root = storage.join(model_dir, CHECKPOINTS)
    found: dict[str, set[str]] = {}
    for file in storage.of(root).list_files(root):
        name, _, below = _path_below(root, file).partition("/")
        found.setdefault(name, set()).add(below)
    return found


def newest_intact_checkpoint(model_dir: str) -> Checkpoint | None:
    """Returns a run's newest committed checkpoint without damage, None if there is none; logs the damaged ones."""
    checkpoint, _ = _newest_intact(model_dir)
    return checkpoint


def find_checkpoint(path: str) -> Checkpoint:
    """Returns the checkpoint that `path` means: itself, or the newest intact one of a run's folder.

    Raises:
      UserError: there is none, or it is damaged.
    """
    if storage.exists(storage.join(path, MARKER_NAME)):
        checkpoint = Checkpoint(path)
        if damage := checkpoint.find_damage():
            raise UserError(
                f"a checkpoint's files must have the recorded SHA-256, and in {path} {damage}: copy it again."
            )
        return checkpoint
    checkpoint, damages = _newest_intact(path)
    if checkpoint is not None:
        return checkpoint
    if damages:
        raise UserError(
            f"a --model_dir must have an intact checkpoint, and all of {path} are damaged, the newest in that "
            f"{damages[0]}: copy it again."
        )
    raise UserError(
        f"--checkpoint must be a committed checkpoint or a --model_dir with one, and {path} has no {MARKER_NAME}."
    )


def _newest_intact(model_dir: str) -> tuple[Checkpoint | None, list[str]]:
    """Returns a run's newest checkpoint without damage, if there is one, and what is wrong with those after it."""
    _warn_of_other_names(model_dir)
    damages = []
    for folder in reversed(committed_checkpoints(model_dir)):
        checkpoint = Checkpoint(folder)
        damage = checkpoint.find_damage()
        if damage is None:
            return checkpoint, damages
        logging.warning("%s is damaged (%s); trying the one before it", folder, damage)
        damages.append(damage)
    return None, damages


def _warn_of_other_names(model_dir: str) -> None:
    if others := sorted(name for name in _files_by_name(model_dir) if not _is_checkpoint_name(name)):
        logging.warning(
            "%s in %s is ignored: a checkpoint is named step_ and its step in 8 digits",
            ", ".join(others),
            storage.join(model_dir, CHECKPOINTS),
        )


def delete_old_checkpoints(model_dir: str, keep: int, keep_every_steps: int = 0) -> None:
    """Deletes a run's committed checkpoints, but for the `keep` newest and those that are kept for good.

    Args:
      model_dir: the run's folder.
      keep: how many of the newest stay, at least 1.
      keep_every_steps: a checkpoint whose step is a multiple of this is kept for good; 0 keeps none for good.
    """
    for folder in committed_checkpoints(model_dir)[:-keep]:
        if not keep_every_steps or checkpoint_step(folder) % keep_every_steps:
            delete_checkpoint(folder)


def delete_unfinished_checkpoints(model_dir: str) -> None:
    """Deletes the uncommitted checkpoints of a run: what a killed process left half written or half deleted.

    Whatever has another name than a checkpoint stays.
    """
    for name, files in _files_by_name(model_dir).items():
        if _is_checkpoint_name(name) and MARKER_NAME not in files and any(map(_is_file_of_checkpoint, files)):
            folder = storage.join(model_dir, CHECKPOINTS, name)
            logging.info("deleting the unfinished checkpoint %s", folder)
            delete_checkpoint(folder)


def delete_checkpoint(folder: str) -> None:
    """Deletes a checkpoint, whole or unfinished: its marker first, so that a half deleted one does not count.

    A file that no checkpoint has is the user's: it stays, and so does the folder.
    """
    store = storage.of(folder)
    files = {_path_below(folder, file): file for file in store.list_files(folder)}
    if marker := files.pop(MARKER_NAME, None):
        store.delete_file(marker)
    own = [file for path, file in files.items() if _is_file_of_checkpoint(path)]
    if others := sorted(set(files.values()) - set(own)):
        logging.warning("%s keeps %s, which no checkpoint has", folder, ", ".join(others))
        for file in own:
            store.delete_file(file)
        return
    with contextlib.suppress(FileNotFoundError):  # nothing of it was written
        store.delete_folder(folder)


def _is_file_of_checkpoint(path: str) -> bool:
    """Returns whether a file, by its path below a checkpoint's folder, is one that a run has written."""
    return path in FILE_NAMES or (path.startswith(TEMPORARY_PREFIX) and "/" not in path)


def _path_below(folder: str, file: str) -> str:
    return str(PurePosixPath(file).relative_to(PurePosixPath(folder)))


@contextlib.contextmanager
def deleted_on_failure(folder: str) -> Iterator[None]:
    """Deletes what the block has written into a checkpoint's folder if it raises; what it raises is what is seen.

    Where that cannot be deleted either, `delete_unfinished_checkpoints` does it when the run starts again.
    """
    try:
        yield
    except Exception:
        with contextlib.suppress(Exception), trying_for(DELETION_SECONDS):
            delete_checkpoint(folder)
        raise
