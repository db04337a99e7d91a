"""A run's folder (`--model_dir`): `run.json` says whose it is; then checkpoints and metrics.

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


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """What the final weights are a function of."""

    model_config: dict[str, Any]
    train_config: dict[str, Any]
    train_fingerprint: str

    def differences(self, other: "RunIdentity") -> list[str]:
        """Returns 'name: this value, the other' for every field that differs."""
        pairs = [
            *((name, value, other.model_config.get(name)) for name, value in self.model_config.items()),
            *((name, value, other.train_config.get(name)) for name, value in self.train_config.items()),
            ("training records", self.train_fingerprint[:8], other.train_fingerprint[:8]),
        ]
        return [f"{name}: {mine!r}, now {theirs!r}" for name, mine, theirs in pairs if mine != theirs]


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
        return RunIdentity(**json.loads(storage.read_text(path)))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} must describe a run and does not ({error}): name another --model_dir.") from error
