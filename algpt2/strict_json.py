"""JSON that every parser reads: what is not a finite number is written as null, never as Infinity or NaN."""

import json
import math
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """Returns JSON text of dicts, lists, strings and numbers; an infinite or undefined float becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
