"""JSON that every parser reads: what is not a finite number is written as null, never as Infinity or NaN."""

import json
import math
from collections.abc import Iterable
from typing import Any

from algpt2 import storage
from algpt2.errors import UserError


def dumps(value: Any, indent: int | None = None) -> str:
    """Returns JSON text of dicts, lists, strings and numbers; an infinite or undefined float becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def read_object(path: str, made_by: str, required: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises:
      UserError: it is not one, or lacks a required key; the sentence says what makes such a file.
    """
    try:
        fields = json.loads(storage.read_text(path))
        if not isinstance(fields, dict):
            raise ValueError(f"it is a {type(fields).__name__}")
        if missing := sorted(set(required) - set(fields)):
            raise ValueError(f"it lacks {', '.join(missing)}")
        return fields
    except ValueError as error:
        raise UserError(
            f"{path} must be a JSON object as {made_by} writes it, and is not ({error}): make it again."
        ) from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
