"""Files of examples: every line has its place, and what is wrong with one is said with it."""

import json

import pytest

from algpt2.errors import UserError
from algpt2.evaluation.example_files import PlacedLine, read_lines, read_objects


@pytest.fixture
def file(tmp_path):
    def file(content):
        path = tmp_path / "examples.jsonl"
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        return str(path)

    return file


def test_only_line_feeds_end_a_line_and_one_empty_line_may_end_the_file(file):
    path = file("a\u2028b\r\nc\x0bd\n\n")
    with pytest.raises(UserError, match="line 3 is blank"):
        read_lines(path)
    path = file("a\u2028b\r\nc\x0bd\n")
    assert read_lines(path) == [PlacedLine(f"{path}, line 1", "a\u2028b"), PlacedLine(f"{path}, line 2", "c\x0bd")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "must hold text, and .* is empty"),
        ("\n", "line 1 is blank"),
        (" ", "line 1 is blank"),
        ('{"a": 1}\n\n{"a": 2}\n', "line 2 is blank"),
        ('{"a": 1}\n[2]\n', "must be a JSON object, and .*line 2 is not"),
        ('{"a": 1}\n{"a": \n', "must be a JSON object, and .*line 2 is not"),
        ('{"a": 1, "a": 2}\n', "line 1 is not"),
        (b'{"a": "\xe9"}\n', "must be UTF-8"),
    ],
)
def test_a_file_that_holds_no_examples_is_refused(file, content, expected):
    with pytest.raises(UserError, match=expected):
        read_objects(file(content))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "'key' must be a text, and in .*line 2 it is None"),
        (3, "'key' must be a text, and in .*line 2 it is 3"),
        (" \t", "'key' must not be blank, and in .*line 2 it is"),
        ("a\ud800", "'key' must be encodable as UTF-8, and in .*line 2 character 1 is not"),
    ],
)
def test_a_value_that_cannot_be_scored_is_refused_with_its_line(file, value, expected):
    first, second = read_objects(file(json.dumps({"key": "a"}) + "\n" + json.dumps({"key": value}) + "\n"))
    assert first.text("key") == "a"
    with pytest.raises(UserError, match=expected):
        second.text("key")


def test_a_blank_text_is_one_where_that_is_allowed(file):
    (line,) = read_objects(file('{"key": " "}\n'))
    assert line.text("key", may_be_blank=True) == " "
