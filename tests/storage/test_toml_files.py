"""What TOML has and JSON has not is refused in words, by whoever reads a file of it."""

import pytest

from algpt2.storage.toml_files import parse_object


def test_fields_are_plain_values():
    assert parse_object('a = 1\nb = [1.5, "x"]\n[c]\nd = true') == {"a": 1, "b": [1.5, "x"], "c": {"d": True}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[c", "it is not TOML"),
        ("[c]\nd = [2026-11-30]", "its c.d is a date or a time"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested"),
    ],
    ids=["not TOML", "a date", "nested"],
)
def test_what_is_no_plain_value_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_object(text)
