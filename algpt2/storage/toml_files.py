"""TOML text to the values that JSON has too, so that `json_files.build` makes dataclasses of either."""

import sys
from typing import Any

from algpt2.storage import json_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse_object(text: str) -> dict[str, Any]:
    """Returns the fields of a TOML text; raises `ValueError` if it is none, or has a date or a time."""
    try:
        fields = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not TOML ({error})") from error
    except RecursionError as error:
        raise ValueError(json_files.TOO_DEEP) from error
    _require_json_values(fields, "")
    return fields


def _require_json_values(value: Any, place: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _require_json_values(item, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for item in value:
            _require_json_values(item, place)
    elif not isinstance(value, str | int | float):
        raise ValueError(f"its {place} is a date or a time, which no field here is")
