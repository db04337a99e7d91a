import dataclasses
import json
import math
from typing import Any

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import json_files


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def test_numbers_that_json_cannot_say_become_null_at_any_depth():
    """Python's own parser reads Infinity and NaN; other parsers refuse them, and so does this test."""
    text = json_files.dumps({"a": math.inf, "b": [math.nan, {"c": (-math.inf, 1.5)}], "d": "x"})
    parsed = json.loads(text, parse_constant=refuse_constant)
    assert parsed == {"a": None, "b": [None, {"c": [None, 1.5]}], "d": "x"}


@dataclasses.dataclass(frozen=True)
class Wheel:
    spokes: int
    radius: float = 0.3


@dataclasses.dataclass(frozen=True)
class Bicycle:
    name: str
    wheels: tuple[Wheel, ...]
    bell: Wheel | None = None
    prices: dict[str, float] = dataclasses.field(default_factory=dict)
    notes: dict[str, Any] | None = None
    sold: bool = False

    def __post_init__(self):
        if not self.name:
            raise UserError("name must not be empty, received ''.")
        if len(self.wheels) > 2:
            raise ValueError(f"it has {len(self.wheels)} wheels")


WHOLE = Bicycle("one", (Wheel(32), Wheel(36, 0.35)), Wheel(1, 2), {"new": 9.5}, {"x": [None, {"y": 1}]}, True)


def test_nested_dataclasses_come_back_as_they_were_written():
    fields = json.loads(json_files.dumps(dataclasses.asdict(WHOLE)))
    assert json_files.build(Bicycle, fields) == WHOLE


def test_fields_with_a_default_may_be_missing():
    assert json_files.build(Bicycle, {"name": "old", "wheels": []}) == Bicycle("old", ())
    assert json_files.build(Bicycle, {"name": "old", "wheels": [{"spokes": 3}]}).wheels == (Wheel(3, 0.3),)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"colour": "red", "brand": 1}, "it has unknown keys ['brand', 'colour']"),
        ({"name": 3}, "its name is 3, not a string"),
        ({"name": None}, "its name is null, not a string"),
        ({"wheels": {}}, "its wheels is an object, not a list"),
        ({"wheels": [{"spokes": 3}, {}]}, "its wheels[1] lacks spokes"),
        ({"wheels": [3]}, "its wheels[0] is 3, not an object"),
        ({"wheels": [{"spokes": 3.5}]}, "its wheels[0].spokes is 3.5, not a whole number"),
        ({"wheels": [{"spokes": True}]}, "its wheels[0].spokes is true, not a whole number"),
        ({"wheels": [{"spokes": 3, "radius": "3"}]}, 'its wheels[0].radius is "3", not a number'),
        ({"bell": {"spokes": 3, "rim": 1}}, "its bell has unknown keys ['rim']"),
        ({"bell": []}, "its bell is a list, not an object"),
        ({"prices": {"new": "9"}}, 'its prices.new is "9", not a number'),
        ({"notes": 3}, "its notes is 3, not an object"),
        ({"sold": 1}, "its sold is 1, not true or false"),
        ({"wheels": [{"spokes": 3}] * 3}, "it has 3 wheels"),
    ],
)
def test_whatever_does_not_fit_is_refused_with_its_place(changes, found):
    fields = {"name": "one", "wheels": [], **changes}
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        json_files.build(Bicycle, fields)
    assert str(raised.value) == found


def test_every_missing_key_is_named():
    with pytest.raises(ValueError, match="^it lacks name, wheels$"):
        json_files.build(Bicycle, {})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "it is not JSON (Expecting value"),
        (b"\xff", "it is not UTF-8 ("),
        ("{}".encode("utf-16"), "it is not UTF-8 ("),
        (b"[" * 100_000, "it is nested in more than 100 levels"),
        (b"[1]", "it is a list"),
        (b"null", "it is null"),
        (b"{}", "it lacks name, wheels"),
        (b'{"name": "", "wheels": []}', None),
    ],
)
def test_a_file_is_refused_in_one_sentence_that_names_it(tmp_path, content, found):
    path = str(tmp_path / "bicycle.json")
    storage.write_bytes(path, content)
    with pytest.raises(UserError) as raised, json_files.refusing(path, "describe a bicycle", "build it again"):
        json_files.build(Bicycle, json_files.load_object(path))
    if found:
        assert str(raised.value).startswith(f"{path} must describe a bicycle, and {found}")
        assert str(raised.value).endswith(": build it again.")
    else:
        assert str(raised.value) == f"in {path}, name must not be empty, received ''."


def test_an_object_is_read_with_what_else_it_holds_and_refused_without_what_it_must(tmp_path):
    path = str(tmp_path / "a.json")
    storage.write_text(path, '{"a": 1, "b": [null]}')
    assert json_files.read_object(path, "a script", ["a"]) == {"a": 1, "b": [None]}
    with pytest.raises(UserError, match="a JSON object as a script writes it, and it lacks c, d: make it again"):
        json_files.read_object(path, "a script", ["c", "a", "d"])


def test_lines_are_read_one_by_one_and_a_bad_one_is_named(tmp_path):
    path = str(tmp_path / "a.jsonl")
    storage.write_bytes(path, b'{"a": 1}\r\n{"a": "\xe2\x80\xa8"}\n')
    assert json_files.load_lines(path) == [{"a": 1}, {"a": "\u2028"}]
    storage.write_bytes(path, b'{"a": 1}\n\n')
    with pytest.raises(ValueError, match="^in line 2 it is not JSON"):
        json_files.load_lines(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "b": 2, "a": 3}', "it has the key 'a' twice"),
        ('{"b": {"a": 1, "a": 1}}', "it has the key 'a' twice"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "it is nested in more than 100 levels"),
        ('{"a": ' + "[" * 10**6, "it is nested in more than 100 levels"),
        ('{"a":' * 10**5, "it is nested in more than 100 levels"),
        ('{"a": ' + "9" * 5000 + "}", "it has a number of thousands of digits"),
    ],
)
def test_what_python_would_drop_or_choke_on_is_refused(text, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        json_files.parse_object(text)


def test_a_hundred_levels_are_read_and_brackets_in_strings_are_no_levels():
    assert json_files.parse_object('{"a": ' + "[" * 99 + "]" * 99 + "}")["a"]
    assert json_files.parse_object(json.dumps({"a": "[" * 1000, "b": [[]] * 200}))["a"] == "[" * 1000


def test_a_long_value_is_shown_by_its_beginning():
    with pytest.raises(ValueError, match=r"its spokes is \"x{199}\.\.\. \(100002 characters\), not a whole number"):
        json_files.build(Wheel, {"spokes": "x" * 10**5})
    with pytest.raises(ValueError, match=r"unknown keys \['y+\.\.\. \(100004 characters\)$"):
        json_files.build(Wheel, {"y" * 10**5: 1})


def test_a_list_of_objects_and_an_object_alone_are_read_alike(tmp_path):
    path = str(tmp_path / "a.json")
    for text, expected in {'[{"a": 1}, {}]': [{"a": 1}, {}], '{"a": [1]}': [{"a": [1]}], "[]": []}.items():
        storage.write_text(path, text)
        assert json_files.load_objects(path) == expected
    for text, found in {"[{}, 2]": "it has 2 in the place of", "3": "it has 3 in", "[": "it is not JSON"}.items():
        storage.write_text(path, text)
        with pytest.raises(ValueError, match=found):
            json_files.load_objects(path)
