"""What a run measures, as values, and the files that hold it: one JSON object a line, with the step it belongs to."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from algpt2 import storage
from algpt2.runs.folder import METRICS_NAME
from algpt2.storage import json_files
from algpt2.storage.publisher import Publisher

Metrics = Mapping[str, float | None]
"""Figures of a step by their names; None is a figure that is not known yet."""

_GROUP_OF_KEY = {
    "loss": "train",
    "gradient_norm": "train",
    "learning_rate": "train",
    "tokens": "train",
    "skipped_steps": "train",
    "tokens_per_second": "speed",
    "seconds_per_step": "speed",
    "mfu": "speed",
    "input_wait_fraction": "speed",
    "checkpoint_seconds": "checkpoints",
    "checkpoint_wait_seconds": "checkpoints",
    "failed_checkpoints": "checkpoints",
}
REST_SECONDS = 10.0  # on Cloud Storage, where every line would upload the whole file
OTHER_GROUP = "evaluation"
_GROUP_OF_PREFIX = {"val_": "validation/", "ema_val_": "validation/ema_"}


class Sample(NamedTuple):
    """A prompt, and what a model continued it with."""

    prompt: str
    text: str


class StepResults(NamedTuple):
    """What consecutive steps came to, one value a step.

    losses: float32 (n_steps,), before each step's update, nats per token over the global batch.
    norms: float32 (n_steps,), of each global gradient before clipping.
    skipped: bool (n_steps,), whether the update was skipped (`TrainConfig.skip_spikes`).
    input_seconds: time spent in asking for input, over all the steps. Where input is fetched while the step before
      still runs, training did not wait for all of it.
    """

    losses: np.ndarray
    norms: np.ndarray
    skipped: np.ndarray
    input_seconds: float


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation of a model came to.

    lines: what log lines say of it, each behind the evaluation's name.
    warnings: the same, as warnings.
    metrics: figures for `metrics.jsonl` and the curves; those of the last step are in `result.json` too.
    samples: texts for `samples.jsonl`.
    """

    lines: Sequence[str] = ()
    warnings: Sequence[str] = ()
    metrics: Metrics = dataclasses.field(default_factory=dict)
    samples: Sequence[Sample] = ()


class StepFile:
    """A file that grows by lines. It is published whole at each: small, atomic, and the same on a disk and gs://."""

    def __init__(self, path: str, up_to_step: int, publisher: Publisher):
        """Keeps the lines up to a step; later ones are dropped, because a resumed run writes them again."""
        self._path = path
        self._lines = [_encoded(line) for line in read_lines(path) if line["step"] <= up_to_step]
        self._publisher = publisher

    def write(self, step: int, *rows: Mapping[str, Any]) -> None:
        """Adds a line for each row and hands the file over; returns at once."""
        self._lines.extend(_encoded({"step": step, **row}) for row in rows)
        rest_seconds = REST_SECONDS if storage.is_remote(self._path) else 0.0
        self._publisher.publish(self._path, self._lines, rest_seconds)


def _encoded(line: Mapping[str, Any]) -> bytes:
    return (json_files.dumps(line) + "\n").encode()


def read_metrics(model_dir: str) -> list[dict[str, Any]]:
    """Returns a run's metrics, oldest first; none if the run wrote none yet.

    Raises:
      UserError: a line is not a JSON object with a step, or a figure is no number.
    """
    path = storage.join(model_dir, METRICS_NAME)
    lines = read_lines(path)
    with json_files.refusing(path, "hold figures", "move it away to go on without it"):
        for number, line in enumerate(lines, 1):
            json_files.require_figures(line, f"line {number}")
    return lines


def read_lines(path: str) -> list[dict[str, Any]]:
    """Returns the lines of such a file, oldest first; none if it does not exist.

    Raises:
      UserError: a line is not a JSON object with a step.
    """
    if not storage.exists(path):
        return []
    with json_files.refusing(path, "hold one JSON object a line, each with a step", "move it away to go on without it"):
        lines = json_files.load_lines(path)
        if without := [number for number, line in enumerate(lines, 1) if not isinstance(line.get("step"), int)]:
            raise ValueError(f"line {without[0]} has none")
        return lines


def tag_of(key: str) -> str:
    """Returns the name of a metric's chart: 'loss' -> 'train/loss', 'val_loss' -> 'validation/loss'.

    What is neither a training figure nor a validation is another evaluation's: 'x_accuracy' -> 'evaluation/x_accuracy'.
    """
    for prefix, group in _GROUP_OF_PREFIX.items():
        if key.startswith(prefix):
            return group + key.removeprefix(prefix)
    return f"{_GROUP_OF_KEY.get(key, OTHER_GROUP)}/{key}"
