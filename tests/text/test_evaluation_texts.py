"""The texts of evaluation files: every string of them, whatever its key."""

import gzip
import hashlib
import json

import pyarrow
import pyarrow.parquet
import pytest

from algpt2.errors import UserError
from algpt2.text.evaluation_texts import sha256_and_texts

OBJECTS = [
    {"ctx": "one", "endings": ["two", "three"], "label": 1},
    {"meta": {"deep": ["four", None]}, "goal": "f\u00fcnf"},
]
LINES = "".join(json.dumps(one) + "\n" for one in OBJECTS).encode()
TEXTS = ["one", "two", "three", "four", "f\u00fcnf"]


def texts_of(path):
    return list(sha256_and_texts(str(path))[1])


def test_each_string_of_json_lines_is_a_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES + b"\n")
    assert texts_of(tmp_path / "a.jsonl") == TEXTS
    assert sha256_and_texts(str(tmp_path / "a.jsonl"))[0] == hashlib.sha256(LINES + b"\n").hexdigest()
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    assert texts_of(tmp_path / "a.jsonl.gz") == TEXTS


def test_each_string_of_parquet_is_a_text(tmp_path):
    table = pyarrow.table({"question": ["one", "two"], "answers": [["three"], []], "number": [1, 2]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert texts_of(tmp_path / "a.parquet") == ["one", "three", "two"]


def test_a_plain_file_is_one_text(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo")
    assert texts_of(tmp_path / "a.txt") == ["one\n\ntwo"]


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.txt", b"\xff", "must be UTF-8"),
        ("a.jsonl", LINES + b"[1]\n", "line 3 is not"),
        ("a.jsonl", b'{"a": "\xff"}\n', "line 1 is not"),
        ("a.jsonl.gz", gzip.compress(LINES)[:-9], "must be whole"),
        ("a.parquet", b"PAR1", "is not a whole Parquet file"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, content, named):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=named) as refusal:
        texts_of(tmp_path / name)
    assert str(tmp_path / name) in str(refusal.value)
