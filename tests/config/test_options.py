"""Dataclass fields as flags: default, help and type have one home."""

import argparse
import dataclasses

import pytest

from algpt2.config.options import FRACTION_ABOVE_0, add_options, at_least, given_options, option, require_rules
from algpt2.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sample:
    plain: int = 0
    count: int = option(3, "how many")
    rate: float | None = option(None, "how fast")
    kind: str = option("a", "which kind", ("a", "b"))
    enabled: bool = option(True, "whether it acts")
    names: tuple[str, ...] = option((), "which names")


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--other", default="x")
    add_options(parser, Sample)
    return parser


def given(parser, *flags):
    return given_options(parser.parse_args(flags), Sample)


def test_flags_become_values_of_the_fields_types(parser):
    """The original parsed its sampling flags as strings, and top_k became 1."""
    values = given(parser, "--count", "7", "--rate", "0.5", "--kind", "b", "--no-enabled")
    assert values == {"count": 7, "rate": 0.5, "kind": "b", "enabled": False}
    assert [type(value) for value in values.values()] == [int, float, str, bool]


def test_a_flag_that_is_not_given_leaves_no_value_so_that_the_default_has_one_home(parser):
    assert given(parser) == {}
    assert given(parser, "--other", "y") == {}
    assert given(parser, "--count", "3") == {"count": 3}
    assert given(parser, "--enabled") == {"enabled": True}


def test_a_field_of_several_values_takes_one_or_more(parser):
    assert given(parser, "--names", "a b", "c", "--count", "1") == {"names": ("a b", "c"), "count": 1}
    assert Sample(**given(parser, "--names", "a")).names == ("a",)
    with pytest.raises(SystemExit):
        parser.parse_args(["--names"])


def test_a_field_that_is_no_option_is_no_flag(parser):
    with pytest.raises(SystemExit):
        parser.parse_args(["--plain", "1"])


@pytest.mark.parametrize("flags", [["--kind", "c"], ["--count", "1.5"], ["--rate", "fast"], ["--count"]])
def test_a_wrong_value_ends_with_status_2(parser, flags, capsys):
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(flags)
    assert ended.value.code == 2
    assert flags[0] in capsys.readouterr().err


def test_help_shows_text_default_and_choices(parser):
    text = " ".join(parser.format_help().split())
    assert "--count COUNT how many (default: 3)" in text
    assert "--rate RATE how fast" in text
    assert "how fast (default" not in text
    assert "--kind {a,b} which kind (default: a)" in text
    assert "--no-enabled whether it acts (default: True)" in text
    assert text.count("(default: True)") == 1
    assert text.endswith("which names")


def test_help_shows_the_default_of_a_script_that_has_another():
    parser = argparse.ArgumentParser()
    add_options(parser, Sample, {"count": "as many as there are"})
    text = " ".join(parser.format_help().split())
    assert "--count COUNT how many (default: as many as there are)" in text
    assert "which kind (default: a)" in text


@dataclasses.dataclass(frozen=True)
class Ruled:
    count: int = option(3, "how many", rule=at_least(1))
    rate: float | None = option(None, "how fast", rule=FRACTION_ABOVE_0)
    scale: float = option(1.0, "how large")
    kind: str | None = option(None, "which kind", ("a", "b"))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"count": 0}, "count must be at least 1, received 0."),
        ({"rate": 0.0}, r"rate must be in \(0, 1\], received 0.0."),
        ({"rate": float("nan")}, r"rate must be in \(0, 1\], received nan."),
        ({"scale": float("inf")}, "scale must be a finite number, received inf."),
        ({"kind": "c"}, "kind must be one of a, b, received 'c'."),
    ],
)
def test_a_value_that_breaks_its_fields_rule_or_choices_is_refused(fields, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        require_rules(Ruled(**fields))


def test_none_is_allowed_where_it_is_the_default():
    require_rules(Ruled())
    require_rules(Ruled(count=1, rate=1.0, scale=-2.0, kind="b"))
