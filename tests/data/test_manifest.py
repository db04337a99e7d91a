"""The manifest: read back as written, and refused when it is missing or of another kind."""

import json

import pytest

from algpt2.data.manifest import Manifest, Shard, Split, counts, read_manifest, write_manifest
from algpt2.errors import UserError

TRAIN = Split(3, 40, 21, 16, 5, (Shard("a", 1, 10, "00000000", 14), Shard("b", 1, 10, "ffffffff", 16)))
VAL = Split(0, 0, 0, 0, 0, ())
MANIFEST = Manifest(8, 300, 299, "ab" * 32, 0, 0.0, TRAIN, VAL)


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    write_manifest(str(tmp_path), MANIFEST)
    assert read_manifest(str(tmp_path)) == MANIFEST
    assert read_manifest(str(tmp_path)).train.records == 2


def test_unknown_counts_are_read_back_and_shown_as_unknown(tmp_path):
    train = Split(None, None, None, 16, None, TRAIN.shards)
    manifest = Manifest(8, 300, 299, "ab" * 32, None, None, train, VAL, record_format="inputs_labels")
    write_manifest(str(tmp_path), manifest)
    assert read_manifest(str(tmp_path)) == manifest
    assert counts(manifest)["train"] == {
        **{"documents": None, "text_bytes": None, "input_tokens": None, "tail_tokens": None},
        **{"target_tokens": 16, "target_bytes": 30, "records": 2, "shards": 2},
    }


def test_a_manifest_without_a_record_format_holds_ids(tmp_path):
    fields = json.loads(MANIFEST.to_json())
    del fields["record_format"]
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    assert read_manifest(str(tmp_path)) == MANIFEST


def test_counts_show_numbers_instead_of_shards():
    short = counts(MANIFEST)
    assert (short["train"]["shards"], short["train"]["records"], short["val"]["shards"]) == (2, 2, 0)
    assert (short["train"]["target_bytes"], short["val"]["target_bytes"]) == (30, 0)
    assert json.loads(json.dumps(short))["seq_len"] == 8


def test_a_folder_without_a_manifest_is_unfinished(tmp_path):
    with pytest.raises(UserError, match="unfinished"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda fields: fields.update(format_version=2), "its format_version is 2"),
        (lambda fields: fields.pop("format_version"), "its format_version is None"),
        (lambda fields: fields.pop("val"), "it lacks val"),
        (lambda fields: fields.pop("seq_len"), "it lacks seq_len"),
        (lambda fields: fields.update(unknown=1), "it has unknown keys ['unknown']"),
        (
            lambda fields: fields["train"].update(shards=[{"name": "a"}]),
            "its train.shards[0] lacks records, ",
        ),
        (
            lambda fields: fields["train"]["shards"][1].update(records="1"),
            'its train.shards[1].records is "1", ',
        ),
        (lambda fields: fields.update(train=None), "its train is null, not an object"),
        (lambda fields: fields.update(record_format="labels"), "record_format must be one of ('ids', 'inputs_labels')"),
        (lambda fields: fields.update(record_format=None), "its record_format is null, not a string"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_is_wrong_in_it(tmp_path, change, found):
    fields = json.loads(MANIFEST.to_json())
    change(fields)
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError) as raised:
        read_manifest(str(tmp_path))
    sentence = str(raised.value)
    assert sentence.startswith(f"{tmp_path}/manifest.json must be a manifest of format version 1, and {found}")
    assert sentence.endswith(": make the data again.")


@pytest.mark.parametrize(("content", "found"), [(b"{", "not JSON"), (b"[]", "it is a list"), (b"\xff", "not UTF-8")])
def test_a_file_that_is_no_json_object_is_refused(tmp_path, content, found):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=f"must be a manifest .*{found}"):
        read_manifest(str(tmp_path))
