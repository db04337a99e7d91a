"""A run's curves and samples on Weights & Biases (the extra `wandb`)."""

import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.tracking.metrics import Metrics, Sample, tag_of

RUN_ID_NAME = "wandb_run_id"
FINISH_SECONDS = 60.0


def require_installed(project: str | None) -> None:
    """Raises `UserError` if a project is given and there is no package to reach it with."""
    if project and not _is_installed():
        raise UserError("--wandb_project needs the wandb package: run `pip install -e '.[wandb]'`.")


class WandbLog:
    """One process's part of a run on Weights & Biases, which all processes of a run's folder continue.

    The service takes steps in order only: what a killed process logged stays, and when the resumed run logs those
    steps again, the service drops them. The figures are the same unless the run was rewound or its settings changed.
    """

    def __init__(self, model_dir: str, project: str, description: Mapping[str, Any]):
        """Begins or continues the run that belongs to a folder, and shows its description as its configuration.

        Raises:
          UserError: Weights & Biases does not know the user, or refuses the project's name.
        """
        import wandb

        try:
            self._run = wandb.init(
                project=project,
                name=storage.base_name(model_dir),
                id=_run_id(model_dir),
                resume="allow",
                dir=_local_folder(model_dir),
                config=dict(description),
                settings=wandb.Settings(console="off", silent=True, finish_timeout=FINISH_SECONDS),
            )
        except wandb.errors.UsageError as error:
            raise UserError(
                f"Weights & Biases must take --wandb_project {project} and refuses it ({error}): "
                "run `wandb login`, or set WANDB_MODE=offline, or leave the flag out."
            ) from error
        self._table = wandb.Table
        logging.info("Weights & Biases: %s", self._run.url or f"offline, in {self._run.dir}")

    def write(self, step: int, metrics: Metrics) -> None:
        """Logs every number under the name `tag_of` its key."""
        self._run.log({tag_of(key): value for key, value in metrics.items() if value is not None}, step=step)

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Logs the samples as a table."""
        table = self._table(columns=["step", *Sample._fields], data=[[step, *sample] for sample in samples])
        self._run.log({"samples": table}, step=step)

    def close(self) -> None:
        """Uploads what is left, for a minute at most; then it stays on disk for `wandb sync`."""
        self._run.finish()


def _is_installed() -> bool:
    """Returns whether `import wandb` gives the package.

    Without it, the folder `wandb` that it once made in the working directory is importable too, as a namespace package.
    """
    try:
        import wandb
    except ImportError:
        return False
    return hasattr(wandb, "init")


def _run_id(model_dir: str) -> str:
    """Returns the id that the folder keeps, so that it can be moved, and a resumed run continues the same curves."""
    path = storage.join(model_dir, RUN_ID_NAME)
    if not storage.exists(path):
        storage.write_text(path, uuid.uuid4().hex[:16] + "\n")
    return storage.read_text(path).strip()


def _local_folder(model_dir: str) -> str | None:
    """Returns where the package keeps its own files: beside the run's, unless those are on gs:// or the user says."""
    return None if storage.is_remote(model_dir) or os.environ.get("WANDB_DIR") else model_dir
