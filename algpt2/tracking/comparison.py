"""Finished runs side by side, with a model that knows nothing for scale."""

import math
from collections.abc import Sequence
from typing import Any

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.evaluation.scores import bits_per_byte
from algpt2.records.record_set import RecordSet
from algpt2.runs.folder import RESULT_NAME, read_result
from algpt2.storage import json_files
from algpt2.tables import markdown

RESULT_KEYS = ("model_dir", "parameters", "tokens_per_second")
EVALUATION_KINDS = {"bits_per_byte": float | None, "scored_tokens": int, "scored_bytes": int}
COLUMNS = {
    "model": "{}",
    "parameters": "{:,}",
    "validation loss": "{:.3f}",
    "bits per byte": "{:.3f}",
    "held-out bits per byte": "{:.3f}",
    "tokens/s": "{:,.0f}",
}


Row = dict[str, str | float | None]
"""A model's cells under the names of `COLUMNS`; None is what is not known."""


def compare_runs(model_dirs: Sequence[str], evaluation_files: Sequence[str], val_records: RecordSet) -> list[Row]:
    """Returns a row for a uniform model and one for each run, keyed as `COLUMNS`; what is unknown is None.

    Args:
      model_dirs: folders of finished runs.
      evaluation_files: the JSON results of eval/wikitext.py, one for each run in the same order, or none at all.
      val_records: what the runs were validated on.

    Raises:
      UserError: a run that has not finished, another number of evaluations than of runs, or a file of another kind.
    """
    if evaluation_files and len(evaluation_files) != len(model_dirs):
        raise UserError(
            f"there must be one evaluation for each run or none, received {len(evaluation_files)} for "
            f"{len(model_dirs)} runs."
        )
    results = [_read_result(model_dir) for model_dir in model_dirs]
    evaluations = [_read_evaluation(file) for file in evaluation_files] or [None] * len(results)
    runs = [_run_row(result, evaluation) for result, evaluation in zip(results, evaluations, strict=True)]
    return [_uniform_row(val_records, evaluations[0]), *runs]


def format_table(rows: Sequence[Row]) -> str:
    """Returns rows as an aligned Markdown table."""
    return markdown([[*COLUMNS], *([_format(row[name], style) for name, style in COLUMNS.items()] for row in rows)])


def _format(value: str | float | None, style: str) -> str:
    return "-" if value is None else style.format(value)


def _read_result(model_dir: str) -> dict[str, Any]:
    if result := read_result(model_dir, *RESULT_KEYS):
        return result
    raise UserError(f"a run must have finished to be compared, and {model_dir} has no {RESULT_NAME}: train on.")


def _read_evaluation(path: str) -> dict[str, Any]:
    return json_files.read_object(path, "eval/wikitext.py", EVALUATION_KINDS, EVALUATION_KINDS)


def _run_row(result: dict[str, Any], evaluation: dict[str, Any] | None) -> Row:
    return _row(
        storage.base_name(result["model_dir"]),
        result["parameters"],
        result.get("val_loss"),
        result.get("val_bits_per_byte"),
        evaluation and evaluation["bits_per_byte"],
        result["tokens_per_second"],
    )


def _uniform_row(val_records: RecordSet, evaluation: dict[str, Any] | None) -> Row:
    """Returns the row of a model that gives every token of the vocabulary the same probability."""
    nats = math.log(val_records.vocab_size)
    val_tokens = val_records.target_count
    held_out = evaluation and bits_per_byte(nats * evaluation["scored_tokens"], evaluation["scored_bytes"])
    return _row("uniform", 0, nats, bits_per_byte(nats * val_tokens, val_records.target_bytes), held_out, None)


def _row(*cells: str | float | None) -> Row:
    return dict(zip(COLUMNS, cells, strict=True))
