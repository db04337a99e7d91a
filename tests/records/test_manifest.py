"""The manifest: read back as written, and refused when it is missing, of another kind, or changed since."""

import json

import pytest

from algpt2.errors import UserError
from algpt2.records.manifest import Manifest, Split, counts, parse_manifest, read_manifest, write_manifest
from algpt2.records.shard_entry import Shard

TRAIN = Split(3, 40, 21, 16, 5, (Shard("a", 1, 10, "00000000", 14), Shard("b", 1, 10, "ffffffff", 16)))
VAL = Split(0, 0, 0, 0, 0, ())
MANIFEST = Manifest(8, 300, 299, "ab" * 32, 0, 0.25, TRAIN, VAL)


def old_fields():
    """The JSON object of a manifest that an earlier version wrote, without the hash of its own content."""
    fields = json.loads(MANIFEST.to_json())
    del fields["content_sha256"]
    return fields


def flipped(data):
    """Yields a file's content with each of its bits flipped, one at a time."""
    for place in range(len(data)):
        for bit in range(8):
            yield data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


def survivors(data):
    """Returns the manifests that come out of a file with one flipped bit and is not refused."""
    found = []
    for content in flipped(data):
        try:
            found.append(parse_manifest(content))
        except ValueError:
            continue
    return found


def test_a_manifest_is_read_back_as_it_was_written(tmp_path):
    write_manifest(str(tmp_path), MANIFEST)
    assert read_manifest(str(tmp_path)) == MANIFEST
    assert read_manifest(str(tmp_path)).train.records == 2


def test_unknown_counts_are_read_back_and_shown_as_unknown(tmp_path):
    train = Split(None, None, None, 16, None, TRAIN.shards, None, None)
    manifest = Manifest(8, 300, 299, "ab" * 32, None, None, train, VAL, record_format="inputs_labels", packing=None)
    write_manifest(str(tmp_path), manifest)
    assert read_manifest(str(tmp_path)) == manifest
    assert counts(manifest)["train"] == {
        **{"documents": None, "text_bytes": None, "input_tokens": None, "tail_tokens": None},
        **{"lost_tokens": None, "false_eos": None},
        **{"duplicate_documents": None, "near_duplicate_documents": None},
        **{"target_tokens": 16, "target_bytes": 30, "records": 2, "shards": 2},
    }


def test_a_manifest_without_a_record_format_holds_ids_packed_as_a_stream(tmp_path):
    fields = old_fields()
    del fields["record_format"], fields["packing"]
    for split in ("train", "val"):
        del fields[split]["lost_tokens"], fields[split]["false_eos"]
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


def shard(fields):
    """The first shard's entry."""
    return fields["train"]["shards"][0]


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
        (lambda fields: fields.update(record_format="labels"), "record_format must be one of ('ids', 'inputs_labels'"),
        (lambda fields: fields.update(record_format=None), "its record_format is null, not a string"),
        (
            lambda fields: fields.update(packing="2020"),
            "packing must be one of ('stream', 'best-fit', 'legacy'), received '2020'",
        ),
        (
            lambda fields: fields["train"].update(lost_tokens=1, false_eos=2),
            "its train has 1 lost_tokens and 2 false_eos with the packing stream",
        ),
        (
            lambda fields: (fields.update(packing="legacy"), fields["val"].update(lost_tokens=None)),
            "its val has None lost_tokens and 0 false_eos with the packing legacy",
        ),
        (lambda fields: fields["train"].update(lost_tokens=6), "lost_tokens 6 are not among the tail_tokens 5"),
        (lambda fields: fields["train"].update(false_eos=3), "2 records have false_eos 3"),
        (lambda fields: fields.update(seq_len=0), "its seq_len is 0, less than 1"),
        (lambda fields: fields.update(seq_len=9), "its train.target_tokens is 16, and its shards hold 2 records of 9"),
        (lambda fields: fields.update(vocab_size=2**63), f"its vocab_size is {2**63}, not from 1 to {2**31}"),
        (lambda fields: fields.update(eos_id=300), "its eos_id is 300, not the last of the 300 ids"),
        (lambda fields: fields.update(tokenizer_sha256="AB" * 32), "its tokenizer_sha256 is 'ABAB"),
        (lambda fields: fields.update(val_fraction=1), "its val_fraction is 1, not from 0 to below 1"),
        (lambda fields: fields.update(val_fraction=float("nan")), "its val_fraction is nan"),
        (lambda fields: fields["train"].update(documents=-1), "its documents is -1, less than 0"),
        (lambda fields: fields["train"].update(documents=22), "22 documents, each of which begins with a token"),
        (lambda fields: fields["train"].update(text_bytes=29), "target_bytes 30 do not fit"),
        (lambda fields: fields["train"].update(text_bytes=17), "input_tokens 21 of 3 documents spell only 17"),
        (
            lambda fields: fields["train"].update(tail_tokens=4),
            "target_tokens 16 and tail_tokens 4 do not make input_tokens 21",
        ),
        (
            lambda fields: shard(fields).update(records=2),
            "its train.target_tokens is 16, and its shards hold 3 records of 8",
        ),
        (lambda fields: shard(fields).update(target_bytes=-14), "its target_bytes of shard 'a' is -14, less than 0"),
        (lambda fields: shard(fields).update(target_bytes=25), "target_bytes 41 do not fit"),
        (
            lambda fields: shard(fields).update(target_bytes=0, records=0),
            "its train.target_tokens is 16, and its shards hold 1 ",
        ),
        (lambda fields: shard(fields).update(crc32c="0000000G"), "its crc32c of shard 'a' is '0000000G', not 8"),
        (lambda fields: shard(fields).update(name="../a"), "a shard's name is '../a', which is not the name of a file"),
        (lambda fields: shard(fields).update(name=".."), "a shard's name is '..'"),
        (lambda fields: shard(fields).update(name="a\0"), "a shard's name is 'a\\x00'"),
        (lambda fields: shard(fields).update(name="\ud800"), "a shard's name is '\\ud800'"),
        (lambda fields: shard(fields).update(name="b"), "it lists the shard 'b' more than once"),
        (lambda fields: fields.update(content_sha256="ab" * 32), "its content is not the one whose SHA-256 is its"),
        (lambda fields: fields.update(content_sha256=None), "its content is not the one whose SHA-256 is its"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_is_wrong_in_it(tmp_path, change, found):
    fields = old_fields()
    change(fields)
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError) as raised:
        read_manifest(str(tmp_path))
    sentence = str(raised.value)
    assert sentence.startswith(f"{tmp_path}/manifest.json must be a manifest of format version 1, and {found}")
    assert sentence.endswith(
        ": copy it again from where the data was made, or make it anew with data_tools/index_tfrecords.py."
    )


@pytest.mark.parametrize(("content", "found"), [(b"{", "not JSON"), (b"[]", "it is a list"), (b"\xff", "not UTF-8")])
def test_a_file_that_is_no_json_object_is_refused(tmp_path, content, found):
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(UserError, match=f"must be a manifest .*{found}"):
        read_manifest(str(tmp_path))


def test_whatever_bit_of_a_manifest_is_flipped_it_is_refused_or_says_the_same():
    data = MANIFEST.to_json().encode()
    assert parse_manifest(data) == MANIFEST
    assert [manifest for manifest in survivors(data) if manifest != MANIFEST] == []


def test_a_flipped_bit_of_a_manifest_without_a_hash_never_changes_what_training_is_made_of():
    """Such a manifest was written by an earlier version. Its counts are held by each other, and shards by theirs."""
    steering = ("seq_len", "vocab_size", "eos_id", "record_format")
    for manifest in survivors(json.dumps(old_fields(), indent=2).encode()):
        assert [getattr(manifest, name) for name in steering] == [getattr(MANIFEST, name) for name in steering]
        for split, original in ((manifest.train, TRAIN), (manifest.val, VAL)):
            assert [one.records for one in split.shards] == [one.records for one in original.shards]
            assert split.target_tokens == original.target_tokens
            assert original.target_tokens - 3 <= split.target_bytes <= 40 * bool(original.records)


def test_a_manifest_without_a_hash_is_read_as_it_was(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps(old_fields(), indent=2) + "\n")
    assert read_manifest(str(tmp_path)) == MANIFEST


def test_another_layout_of_the_same_values_is_the_same_manifest():
    """A tool may have written the file anew, with other spaces and another order of keys."""
    fields = json.loads(MANIFEST.to_json())
    assert parse_manifest(json.dumps(dict(reversed(fields.items()))).encode()) == MANIFEST


def test_a_value_that_was_edited_is_refused_though_it_fits_all_others(tmp_path):
    fields = json.loads(MANIFEST.to_json())
    fields["seed"] = 1
    (tmp_path / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="its content_sha256, so it was changed after it was written: copy it again"):
        read_manifest(str(tmp_path))


def test_the_counts_of_a_split_are_those_of_all_its_shards():
    assert (TRAIN.records, TRAIN.target_bytes) == (1 + 1, 14 + 16)
