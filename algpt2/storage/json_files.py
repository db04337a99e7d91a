"""JSON files: written so that every parser reads them, read into dataclasses, and refused in one sentence.

`load_object`, `load_objects`, `load_lines` and `build` raise a `ValueError` that says what is wrong, as in "its train
lacks shards".
`refusing` makes a user's error of it: the rule that the file breaks, what is wrong, and the remedy.

    with json_files.refusing(path, "describe a run", "name another --model_dir"):
        return json_files.build(RunRecord, json_files.load_object(path))
"""

import contextlib
import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from algpt2 import storage
from algpt2.errors import UserError, shortened, shown

T = TypeVar("T")

# Code that walks through a value calls itself at each level, so what is nested thousandfold would end in a traceback.
MOST_NESTED = 100
TOO_DEEP = f"it is nested in more than {MOST_NESTED} levels"
_SCALAR_NAMES = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def dumps(value: Any, indent: int | None = None) -> str:
    """Returns JSON text of dicts, lists, strings and numbers; an infinite or undefined float becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


@contextlib.contextmanager
def refusing(path: str, rule: str, remedy: str) -> Iterator[None]:
    """Raises `UserError` in place of an error about a file's content that the block raises.

    Args:
      path: of the file.
      rule: what the file must do, as in "hold one JSON object a line".
      remedy: what the user can do, as in "make it again".
    """
    try:
        yield
    except ValueError as error:
        raise UserError(f"{path} must {rule}, and {error}: {remedy}.") from error
    except UserError as error:
        if path in str(error):
            raise
        # A dataclass has refused a value, in a sentence that does not name the file.
        raise UserError(f"in {path}, {error}") from error


def read_object(
    path: str, made_by: str, required: Iterable[str] = (), kinds: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Args:
      path: of the file.
      made_by: what writes such files, for the sentence.
      required: keys that it must have.
      kinds: the types of values by their keys, as `build` takes them; other values may be anything.

    Raises:
      UserError: it is not such an object.
    """
    with refusing(path, f"be a JSON object as {made_by} writes it", "make it again"):
        fields = load_object(path)
        _require_keys(fields, required, place="")
        return fields | {name: _checked(kind, fields[name], name) for name, kind in kinds.items() if name in fields}


def load_object(path: str) -> dict[str, Any]:
    """Returns the JSON object in a file; raises `ValueError` if it holds something else."""
    return parse_object(storage.read_bytes(path))


def load_objects(path: str) -> list[dict[str, Any]]:
    """Returns the JSON objects of the list in a file, or the one object in it; `ValueError` if it holds others."""
    value = _parse(storage.read_bytes(path))
    values = value if isinstance(value, list) else [value]
    if other := [one for one in values if not isinstance(one, dict)]:
        raise ValueError(f"it has {_described(other[0])} in the place of an object")
    return values


def load_lines(path: str) -> list[dict[str, Any]]:
    """Returns the JSON objects in a file that holds one a line; raises `ValueError` if a line holds something else."""
    return [_parse_line(line, number) for number, line in enumerate(storage.read_bytes(path).splitlines(), start=1)]


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Returns the JSON object in a text, UTF-8 if it is bytes; raises `ValueError` if it is something else."""
    value = _parse(text)
    if not isinstance(value, dict):
        raise ValueError(f"it is {_described(value)}")
    return value


def _parse(text: str | bytes) -> Any:
    """Returns the JSON value in a text, UTF-8 if it is bytes; raises `ValueError` if it is something else."""
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=_object_of_distinct_keys)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 ({error})") from error
    except _RepeatedKeyError:
        raise
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    except ValueError as error:  # Python limits the digits of a whole number, and says so in words for programmers.
        raise ValueError("it has a number of thousands of digits") from error
    if text.count("[") + text.count("{") > MOST_NESTED and _is_deeper(value, MOST_NESTED):
        raise ValueError(TOO_DEEP)
    return value


def require_figures(fields: Mapping[str, Any], place: str) -> None:
    """Raises `ValueError` unless every value of an object, which stands at `place` in its file, is a number or null."""
    for name, value in fields.items():
        _checked(float | None, value, f"{place}: {name}")


def build(dataclass: type[T], fields: dict[str, Any], place: str = "") -> T:
    """Returns a dataclass, and those nested in it, made of a JSON object.

    Its fields may be strings, numbers, truth values, other dataclasses, `tuple[X, ...]`, `dict[str, X]`, `X | None` and
    `Any`. A whole number is taken where a float is wanted, and stays a whole number.

    Args:
      dataclass: the class.
      fields: the JSON object. A key may be missing where the field has a default.
      place: where the object stands in its file, as in 'train.shards[0]'; empty for the file's own object.

    Raises:
      ValueError: an unknown key, a missing one, or a value of another type.
    """
    known = {field.name: field for field in dataclasses.fields(dataclass)}
    if unknown := sorted(fields.keys() - known.keys()):
        raise ValueError(f"{_subject(place)} has unknown keys {shown(unknown)}")
    _require_keys(fields, [name for name, field in known.items() if _is_required(field)], place)
    hints = typing.get_type_hints(dataclass)
    prefix = f"{place}." if place else ""
    return dataclass(**{name: _checked(hints[name], value, prefix + name) for name, value in fields.items()})


def _checked(hint: Any, value: Any, place: str) -> Any:
    """Returns a value as its field's type wants it."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is types.UnionType:
        (hint,) = (part for part in parts if part is not types.NoneType)
        return None if value is None else _checked(hint, value, place)
    if isinstance(value, dict) and dataclasses.is_dataclass(hint):
        return build(hint, value, place)
    if isinstance(value, dict) and origin is dict:
        return {key: _checked(parts[1], item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list) and origin is tuple:
        return tuple(_checked(parts[0], item, f"{place}[{index}]") for index, item in enumerate(value))
    if hint is float and type(value) is int:
        return _within_floats(value, place)
    if type(value) is hint:
        return value
    wanted = _SCALAR_NAMES.get(hint, "a list" if origin is tuple else "an object")
    raise ValueError(f"{_subject(place)} is {_described(value)}, not {wanted}")


def _within_floats(value: int, place: str) -> int:
    try:
        float(value)
    except OverflowError as error:
        raise ValueError(f"{_subject(place)} is beyond all floats") from error
    return value


class _RepeatedKeyError(ValueError):
    """A key stands twice in one object, where Python's parser would drop the first value without a word."""


def _object_of_distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKeyError(f"it has the key {shown(next(name for name in names if names.count(name) > 1))} twice")
    return fields


def _is_deeper(value: Any, levels: int) -> bool:
    """Returns whether lists and objects are nested in more than so many levels."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return items is not None and (levels == 0 or any(_is_deeper(item, levels - 1) for item in items))


def _parse_line(line: bytes, number: int) -> dict[str, Any]:
    try:
        return parse_object(line)
    except ValueError as error:
        raise ValueError(f"in line {number} {error}") from error


def _require_keys(fields: dict[str, Any], names: Iterable[str], place: str) -> None:
    if missing := [name for name in names if name not in fields]:
        raise ValueError(f"{_subject(place)} lacks {', '.join(missing)}")


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _subject(place: str) -> str:
    return f"its {place}" if place else "it"


def _described(value: Any) -> str:
    """Names a container by its kind, and gives anything else as JSON writes it."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return shortened(json.dumps(value))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
