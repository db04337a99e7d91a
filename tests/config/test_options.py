"""Dataclass fields as flags: default, help and type have one home."""

import argparse
import dataclasses

import pytest

from algpt2.config.options import add_options, given_options, option


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
