"""A run's folder (`--model_dir`): `run.json` says whose it is; then checkpoints, metrics and at last `result.json`.

Running the same command again resumes. Settings that do not change what the run is may be given anew: they hold from
the step at which the run goes on, and `run.json` keeps the history. Everything else is refused, never mixed in. A run
that has left nothing of a step makes room for another.
"""

import dataclasses
import json
import os
from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.checkpoints.folder import CHECKPOINTS, committed_checkpoints
from algpt2.config.model import GPTConfig
from algpt2.config.training import FIXED_FIELDS, TrainConfig
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.storage.folder_lock import LOCK_NAME

RUN_NAME = "run.json"
RESULT_NAME = "result.json"
METRICS_NAME = "metrics.jsonl"
SAMPLES_NAME = "samples.jsonl"
SKIPPED_NAME = "skipped.jsonl"
MADE_BY = "train_tfrecords.py"
RESULT_KINDS = {
    **{"model_dir": str, "parameters": int, "step": int, "tokens_per_second": float | None},
    **{"val_loss": float | None, "val_bits_per_byte": float | None},
    **{"checkpoint_seconds": float | None, "checkpoint_wait_seconds": float | None},
}
NAMES_OF_STEPS = (METRICS_NAME, SAMPLES_NAME, SKIPPED_NAME, RESULT_NAME)
FILE_NAMES = (RUN_NAME, LOCK_NAME, *NAMES_OF_STEPS)


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """What the final weights are a function of.

    initial_weights: the path that the first weights came from, None where they were drawn.
    optimizer_changes: the names of what a study changed in the optimizer; none in a run of the trainer.
    """

    model_config: GPTConfig
    train_config: TrainConfig
    train_fingerprint: str
    initial_weights: str | None = None
    optimizer_changes: tuple[str, ...] = ()

    def fixed_differences(self, other: "RunIdentity") -> list[str]:
        """Returns 'name: this value, now the other' for everything that differs and may not."""
        mine, theirs = (run.model_config.to_dict() for run in (self, other))
        mine |= {name: getattr(self.train_config, name) for name in FIXED_FIELDS}
        theirs |= {name: getattr(other.train_config, name) for name in FIXED_FIELDS}
        mine["training records"], theirs["training records"] = self.train_fingerprint[:8], other.train_fingerprint[:8]
        mine["initialize_from"], theirs["initialize_from"] = self.initial_weights, other.initial_weights
        mine["optimizer changes"], theirs["optimizer changes"] = self.optimizer_changes, other.optimizer_changes
        return [f"{name}: {mine[name]!r}, now {theirs[name]!r}" for name in mine if mine[name] != theirs[name]]

    def changes(self, other: "RunIdentity") -> dict[str, list[Any]]:
        """Returns [this value, the other] of every training setting that differs."""
        before, now = self.train_config.to_dict(), other.train_config.to_dict()
        return {name: [before[name], now[name]] for name in now if before[name] != now[name]}


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """`run.json`: the run as it is now, and what was done to it, oldest first: each entry has a `step`."""

    identity: RunIdentity
    history: tuple[dict[str, Any], ...] = ()

    def write(self, model_dir: str) -> None:
        """Writes the file."""
        identity = self.identity
        fields = {
            "model_config": identity.model_config.to_dict(),
            "train_config": identity.train_config.to_dict(),
            "train_fingerprint": identity.train_fingerprint,
            "initial_weights": identity.initial_weights,
            "optimizer_changes": list(identity.optimizer_changes),
            "history": list(self.history),
        }
        storage.write_text(storage.join(model_dir, RUN_NAME), json.dumps(fields, indent=2) + "\n")

    def with_entry(self, **entry: Any) -> "RunRecord":
        """Returns the record with one more entry in its history."""
        return dataclasses.replace(self, history=(*self.history, entry))


def begin_run_folder(model_dir: str, identity: RunIdentity) -> None:
    """Writes `run.json` into a new or empty folder; leaves a folder that has one as it is, without reading it.

    Raises:
      UserError: the folder holds something else.
    """
    if not holds_run(model_dir):
        storage.require_empty(model_dir)
        RunRecord(identity).write(model_dir)


def claim_run_folder(model_dir: str, identity: RunIdentity) -> RunRecord:
    """Begins a new folder, or checks that its run is this one, if with other settings; returns the folder's record.

    A run that has left nothing of a step makes room for this one, and the history of `run.json` says so. Whoever calls
    this must hold the folder's lock, because two processes could take each other's place.

    Raises:
      UserError: the folder holds something else, or a run that this one cannot go on from.
    """
    begin_run_folder(model_dir, identity)
    record, differences = compare_run(model_dir, identity)
    if differences:
        logging.info(
            "%s holds a run that made no step, so this one takes its place (%s)", model_dir, "; ".join(differences)
        )
        record = dataclasses.replace(record, identity=identity).with_entry(step=0, begun_anew=differences)
        record.write(model_dir)
    return record


def compare_run(model_dir: str, identity: RunIdentity) -> tuple[RunRecord, list[str]]:
    """Returns the run that a folder holds, and what differs in this one, which would then take its place.

    Raises:
      UserError: the folder holds no run, or one that has made steps and that this one cannot go on from.
    """
    record = require_run(model_dir, "training")
    differences = record.identity.fixed_differences(identity)
    if differences and holds_steps(model_dir):
        raise UserError(
            f"a run resumes only with the model, data and {', '.join(FIXED_FIELDS)} it began with, and {model_dir} "
            f"differs in {'; '.join(differences)}: give them again or leave them out, or name another --model_dir."
        )
    return record, differences


def holds_steps(model_dir: str) -> bool:
    """Returns whether a folder holds anything that a step has left: a committed checkpoint, figures, texts or a result.

    A file without a line counts as none. A run that was killed before its first log line has left nothing.
    """
    paths = [storage.join(model_dir, name) for name in NAMES_OF_STEPS]
    written = (storage.exists(path) and storage.of(path).size_bytes(path) > 0 for path in paths)
    return bool(committed_checkpoints(model_dir)) or any(written)


def require_places(model_dir: str) -> None:
    """Raises `UserError` if a run could not write into its folder, or another thing is in the place of what it writes.

    Only a folder on a disk is looked at, because a name on Cloud Storage can be that of an object and of a folder.
    """
    if storage.is_remote(model_dir) or not os.path.lexists(model_dir):
        return
    if not os.path.isdir(model_dir):
        raise UserError(f"--model_dir must be a folder, and {model_dir} is none: name another.")
    for name in FILE_NAMES:
        _require_file(storage.join(model_dir, name))
    checkpoints, lock = storage.join(model_dir, CHECKPOINTS), storage.join(model_dir, LOCK_NAME)
    if os.path.lexists(checkpoints) and not os.path.isdir(checkpoints):
        raise UserError(
            f"{CHECKPOINTS} must be a folder in --model_dir, and {checkpoints} is none: move it away, or name another "
            "--model_dir."
        )
    for path in (model_dir, lock):
        if os.path.exists(path) and not os.access(path, os.W_OK):
            raise UserError(f"--model_dir must be writable, and {path} is not: permit it, or name another --model_dir.")


def record_changes(model_dir: str, record: RunRecord, identity: RunIdentity, step: int) -> dict[str, list[Any]]:
    """Makes the settings of a claimed folder's run those of `identity`, from `step` on; returns what changed.

    A run calls it before its first step, so the history names a change before any step is made with it.

    Args:
      model_dir: the folder.
      record: what `claim_run_folder` found there.
      identity: the run as it is from now on.
      step: the number of optimizer steps done.
    """
    changes = record.identity.changes(identity)
    if changes:
        dataclasses.replace(record, identity=identity).with_entry(step=step, changes=changes).write(model_dir)
        set_result_aside(model_dir)
    return changes


def read_result(model_dir: str, *required: str) -> dict[str, Any] | None:
    """Returns what `result.json` says of a run, None if the run has not ended.

    Args:
      model_dir: the run's folder.
      required: keys that it must have.

    Raises:
      UserError: it is not what training writes.
    """
    path = storage.join(model_dir, RESULT_NAME)
    return json_files.read_object(path, MADE_BY, required, RESULT_KINDS) if storage.exists(path) else None


def set_result_aside(model_dir: str) -> None:
    """Renames the `result.json` of a run that goes on after its end, after the step that it reports."""
    if result := read_result(model_dir, "step"):
        path = storage.join(model_dir, RESULT_NAME)
        aside = storage.join(model_dir, f"result_step_{result['step']:08d}.json")
        storage.write_bytes(aside, storage.read_bytes(path))
        storage.of(path).delete_file(path)


def holds_run(model_dir: str) -> bool:
    """Returns whether a folder has a `run.json`, which this does not read."""
    return storage.exists(storage.join(model_dir, RUN_NAME))


def require_run(model_dir: str, flag: str) -> RunRecord:
    """Returns the run that a folder holds; raises `UserError`, naming the flag that needs one, if it holds none."""
    if record := read_run(model_dir):
        return record
    raise UserError(f"{flag} needs the --model_dir of a run, and {model_dir} holds none: name a run's folder.")


def read_run(model_dir: str) -> RunRecord | None:
    """Returns the run that a folder holds, None if it holds none.

    Raises:
      UserError: its `run.json` does not describe one.
    """
    if not holds_run(model_dir):
        return None
    path = storage.join(model_dir, RUN_NAME)
    if not storage.is_remote(path):
        _require_file(path)
    with json_files.refusing(path, "describe a run", "name another --model_dir"):
        fields = json_files.load_object(path)
        history = fields.pop("history", [])
        if not isinstance(history, list):
            raise ValueError("its history is not a list")
        return RunRecord(json_files.build(RunIdentity, fields), tuple(history))


def _require_file(path: str) -> None:
    if os.path.lexists(path) and not os.path.isfile(path):
        raise UserError(
            f"{storage.base_name(path)} must be a file in --model_dir, and {path} is none: move it away, or name "
            "another --model_dir."
        )
