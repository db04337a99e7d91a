"""Configuration fields that are also command-line flags: default, help text and choices in one place."""

import argparse
import dataclasses
import types
import typing
from typing import Any

from algpt2.errors import UserError


def option(default: Any, help_text: str, choices: tuple[str, ...] = ()) -> Any:
    """Returns a dataclass field that `add_options` turns into a flag of the same name."""
    return dataclasses.field(default=default, metadata={"help": help_text, "choices": choices})


def require(holds: bool, name: str, rule: str, received: Any) -> None:
    """Raises `UserError` with a field's rule and the value received, unless it holds."""
    if not holds:
        raise UserError(f"{name} must be {rule}, received {received!r}.")


def add_options(parser: argparse.ArgumentParser, config_class: type) -> None:
    """Adds a flag for every `option` of a dataclass. A flag that is not given leaves no attribute behind."""
    group = parser.add_argument_group(config_class.__name__)
    field_types = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if not field.metadata:
            continue
        keywords: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(field)}
        if field_types[field.name] is bool:
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            keywords["type"] = _scalar_type(field_types[field.name])
            keywords["nargs"] = "+" if _is_repeated(field_types[field.name]) else None
            keywords["choices"] = field.metadata["choices"] or None
        group.add_argument(f"--{field.name}", **keywords)


def given_options(arguments: argparse.Namespace, config_class: type) -> dict[str, Any]:
    """Returns the fields of a dataclass that were given on the command line, several values of one as a tuple."""
    names = {field.name for field in dataclasses.fields(config_class) if field.metadata}
    given = {name: value for name, value in vars(arguments).items() if name in names}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _help(field: dataclasses.Field) -> str:
    text = field.metadata["help"]
    return text if field.default in (None, ()) else f"{text} (default: {field.default})"


def _scalar_type(annotation: Any) -> type:
    """`float | None` -> float, `tuple[str, ...]` -> str."""
    if _is_repeated(annotation):
        return typing.get_args(annotation)[0]
    if isinstance(annotation, types.UnionType):
        return next(part for part in typing.get_args(annotation) if part is not type(None))
    return annotation


def _is_repeated(annotation: Any) -> bool:
    """Whether a field is a `tuple[..., ...]`, whose flag takes one or more values."""
    return typing.get_origin(annotation) is tuple
