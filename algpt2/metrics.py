"""`metrics.jsonl`: one JSON object a line, each with the step it belongs to."""

import json
from typing import Any

from algpt2 import storage, strict_json
from algpt2.errors import UserError

METRICS_NAME = "metrics.jsonl"


class MetricsLog:
    """Lines of a run's folder. The whole file is rewritten at each: small, atomic, and the same on gs://."""

    def __init__(self, model_dir: str, first_step: int, name: str = METRICS_NAME):
        """Keeps the lines up to `first_step`, which a resumed run does not write again."""
        self.path = storage.join(model_dir, name)
        self.lines = [line for line in read_metrics(model_dir, name) if line["step"] <= first_step]

    def write(self, **values: Any) -> None:
        """Adds a line; `step` is required."""
        self.lines.append(values)
        storage.write_text(self.path, "".join(strict_json.dumps(line) + "\n" for line in self.lines))


def read_metrics(model_dir: str, name: str = METRICS_NAME) -> list[dict[str, Any]]:
    """Returns a run's metrics, oldest first; none if the run wrote none yet.

    Raises:
      UserError: a line is not a JSON object with a step.
    """
    path = storage.join(model_dir, name)
    if not storage.exists(path):
        return []
    try:
        lines = [json.loads(line) for line in storage.read_text(path).splitlines()]
        if not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines):
            raise ValueError("a line has no step")
        return lines
    except ValueError as error:
        raise UserError(
            f"{path} must hold one JSON object a line: {error}; move it away to go on without it."
        ) from error
