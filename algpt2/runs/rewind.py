"""Setting a run back to one of its checkpoints (`--rewind_to`). What came after it is moved aside, nothing deleted."""

from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.checkpoints.folder import Checkpoint, checkpoint_step, committed_checkpoints
from algpt2.errors import UserError
from algpt2.runs.folder import METRICS_NAME, SAMPLES_NAME, SKIPPED_NAME, require_places, require_run, set_result_aside
from algpt2.storage.folder_lock import locked


def rewind(model_dir: str, step: int) -> dict[str, Any]:
    """Makes the checkpoint of `step` a run's newest; returns where the later ones are now.

    Interrupted, it is finished by calling it again. The next training goes on from `step`.

    Raises:
      UserError: the folder holds no run or another process works on it, or no intact checkpoint of that step is there.
    """
    require_places(model_dir)
    require_run(model_dir, "--rewind_to")  # so that no lock file is put into a folder that holds no run
    with locked(model_dir):
        record = require_run(model_dir, "--rewind_to")
        folders = {checkpoint_step(folder): folder for folder in committed_checkpoints(model_dir)}
        _require_intact(model_dir, step, folders)
        later = [folders[one] for one in sorted(folders, reverse=True) if one > step]
        aside = _new_folder(model_dir)
        for name in (METRICS_NAME, SAMPLES_NAME, SKIPPED_NAME):
            if storage.exists(path := storage.join(model_dir, name)):
                storage.write_bytes(storage.join(aside, name), storage.read_bytes(path))
        # The newest goes first, so that at every moment the checkpoints that are left are the beginning of the run.
        for folder in later:
            logging.info("moving %s to %s", folder, aside)
            storage.of(folder).move_folder(folder, storage.join(aside, storage.base_name(folder)))
        set_result_aside(model_dir)
        record.with_entry(step=step, rewound_from=max(folders), moved_to=aside).write(model_dir)
    return {"model_dir": model_dir, "step": step, "moved": len(later), "moved_to": aside}


def _require_intact(model_dir: str, step: int, folders: dict[int, str]) -> None:
    if step not in folders:
        steps = ", ".join(map(str, sorted(folders))) or "none"
        raise UserError(
            f"--rewind_to must be the step of a checkpoint in {model_dir}, received {step}: it has {steps}."
        )
    if damage := Checkpoint(folders[step]).find_damage():
        raise UserError(
            f"--rewind_to must name an intact checkpoint, and in {folders[step]} {damage}: name one of "
            f"{', '.join(str(one) for one in sorted(folders) if one != step) or 'no other'}."
        )


def _new_folder(model_dir: str) -> str:
    number = 1
    while storage.exists(storage.join(model_dir, f"rewound_{number}")):
        number += 1
    return storage.join(model_dir, f"rewound_{number}")
