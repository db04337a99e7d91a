"""Configuration fields that are also command-line flags: default, help text, choices and rule in one place."""

import argparse
import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from algpt2.errors import UserError, shown


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a field's value must be.

    Attributes:
      text: the rule in words, as it follows "must be" in an error.
      holds: whether a value keeps it.
    """

    text: str
    holds: Callable[[Any], bool]


def at_least(least: float) -> Rule:
    """Returns the rule that a value is `least` or more."""
    return Rule(f"at least {least}", lambda value: value >= least)


def count(least: int, below: int = 2**31) -> Rule:
    """Returns the rule of a whole number that TensorFlow holds as int32, such as the number of a step."""
    limit = "2^31" if below == 2**31 else str(below)
    return Rule(f"at least {least} and below {limit}", lambda value: least <= value < below)


COUNT = count(1)
ABOVE_0 = Rule("above 0", lambda value: value > 0)
FRACTION = Rule("in [0, 1]", lambda value: 0 <= value <= 1)
FRACTION_BELOW_1 = Rule("in [0, 1)", lambda value: 0 <= value < 1)
FRACTION_ABOVE_0 = Rule("in (0, 1]", lambda value: 0 < value <= 1)
# A temperature near 0 would divide logits into infinities, so the least above 0 is bounded.
TEMPERATURE = Rule("0, or from 0.01 to 100", lambda value: value == 0 or 0.01 <= value < 100)


def option(default: Any, help_text: str, choices: tuple[str, ...] = (), rule: Rule | None = None) -> Any:
    """Returns a dataclass field that `add_options` turns into a flag of the same name.

    Args:
      default: of the field; the flag has none, so that what was not given can be told apart.
      help_text: what the flag's help says.
      choices: the values that are allowed, if they are few.
      rule: what else a value must be; see `require_rules`.
    """
    return dataclasses.field(default=default, metadata={"help": help_text, "choices": choices, "rule": rule})


def require(holds: bool, name: str, rule: str, received: Any) -> None:
    """Raises `UserError` with a field's rule and the value received, unless it holds."""
    if not holds:
        raise UserError(f"{name} must be {rule}, received {shown(received)}.")


def require_rules(config: Any) -> None:
    """Checks every option of a configuration against its choices and its rule; None is allowed where it is the default.

    Raises:
      UserError: a value breaks them, or is a float that is not finite.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not field.metadata or (value is None and field.default is None):
            continue
        choices, rule = field.metadata["choices"], field.metadata["rule"]
        if choices:
            require(value in choices, field.name, f"one of {', '.join(choices)}", value)
        if rule is not None:
            require(rule.holds(value), field.name, rule.text, value)
        require(not isinstance(value, float) or math.isfinite(value), field.name, "a finite number", value)


def add_options(
    parser: argparse.ArgumentParser, config_class: type, defaults: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Adds a flag for every `option` of a dataclass. A flag that is not given leaves no attribute in the namespace.

    Args:
      parser: gets the flags.
      config_class: the dataclass.
      defaults: what the help texts say in the place of the dataclass's defaults, where the script has others.
    """
    group = parser.add_argument_group(config_class.__name__)
    field_types = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        if not field.metadata:
            continue
        keywords: dict[str, Any] = {"default": argparse.SUPPRESS, "help": _help(field, defaults)}
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


def _help(field: dataclasses.Field, defaults: Mapping[str, Any]) -> str:
    text, default = field.metadata["help"], defaults.get(field.name, field.default)
    return text if default in (None, ()) else f"{text} (default: {default})"


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
