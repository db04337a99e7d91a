"""A run's folder (`--model_dir`): `run.json` says whose it is; then checkpoints, metrics and at last `result.json`.

Running the same command again resumes; another configuration is refused, never mixed in.
"""

import dataclasses
import json
from typing import Any

from algpt2 import storage
from algpt2.config import GPTConfig
from algpt2.errors import UserError
from algpt2.record_set import RecordSet
from algpt2.train_config import TrainConfig

RUN_NAME = "run.json"
RESULT_NAME = "result.json"
MADE_BY = "train_tfrecords.py"


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """What the final weights are a function of."""

    model_config: dict[str, Any]
    train_config: dict[str, Any]
    train_fingerprint: str

    def differences(self, other: "RunIdentity") -> list[str]:
        """Returns 'name: this value, the other' for every field that differs."""
        mine, theirs = ({**run.model_config, **run.train_config} for run in (self, other))
        pairs = [(name, mine.get(name), theirs.get(name)) for name in {**mine, **theirs}]
        pairs.append(("training records", self.train_fingerprint[:8], other.train_fingerprint[:8]))
        return [f"{name}: {before!r}, now {now!r}" for name, before, now in pairs if before != now]


def identity_of(model_config: GPTConfig, train_config: TrainConfig, train_records: RecordSet) -> RunIdentity:
    """Returns the identity of a run."""
    return RunIdentity(model_config.to_dict(), train_config.to_dict(), train_records.fingerprint)


def claim_run_folder(model_dir: str, identity: RunIdentity) -> None:
    """Writes `run.json` into a new folder, or checks that the folder belongs to this very run.

    Raises:
      UserError: the folder holds something else, or a run of another configuration.
    """
    path = storage.join(model_dir, RUN_NAME)
    if not storage.exists(path):
        storage.require_empty(model_dir)
        storage.write_text(path, json.dumps(dataclasses.asdict(identity), indent=2) + "\n")
        return
    if differences := _read_identity(path).differences(identity):
        raise UserError(
            f"a run resumes only with the configuration it began with, and {model_dir} differs in "
            f"{'; '.join(differences)}: give the same flags again, or another --model_dir."
        )


def _read_identity(path: str) -> RunIdentity:
    try:
        identity = RunIdentity(**json.loads(storage.read_text(path)))
        types = tuple(map(type, dataclasses.astuple(identity)))
        if types != (dict, dict, str):
            raise ValueError("its fields have other types")
        return identity
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} must describe a run and does not ({error}): name another --model_dir.") from error
