"""A folder of records compared with its manifest: what anybody changed in either is found, and an intact one is not."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from original_records import write_original
from wrong_input import flip_bit, flip_bit_unnoticed, list_first_shard, write_foreign_id

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.records.indexing import index_tfrecords
from algpt2.records.manifest import read_manifest, write_manifest
from algpt2.records.tfrecords import read_records
from algpt2.records.verification import verify

FIRST = "train-00000-of-00003.tfrecord"


@pytest.fixture
def folder(records_folder, tmp_path):
    """A copy of sound records, to be spoilt."""
    return Path(shutil.copytree(records_folder, tmp_path / "records"))


def entry(folder, split="train"):
    return getattr(read_manifest(str(folder)), split).shards[0]


def test_an_intact_folder_is_read_to_its_end_with_progress_on_stderr(records_folder, capsys):
    result = verify(records_folder)
    manifest = read_manifest(records_folder)
    sizes = [(Path(records_folder) / one.name).stat().st_size for one in (*manifest.train.shards, *manifest.val.shards)]
    assert result["verified_bytes"] == sum(sizes)
    assert result["train"]["target_bytes"] == manifest.train.target_bytes
    assert "verifying: 100%" in capsys.readouterr().err


def test_records_made_elsewhere_are_verified_too(folder, tmp_path):
    manifest, other = read_manifest(str(folder)), tmp_path / "other"
    other.mkdir()
    for shard in (*manifest.train.shards, *manifest.val.shards):
        write_original(
            other / shard.name, read_records(str(folder / shard.name), manifest.seq_len, manifest.vocab_size)
        )
    index_tfrecords(str(other), str(folder), "val*")
    assert verify(str(other))["train"]["target_bytes"] == manifest.train.target_bytes
    list_first_shard(other, "val", dataclasses.replace(entry(other, "val"), target_bytes=1))
    with pytest.raises(UserError, match="and the manifest says 1: copy it again"):
        verify(str(other))


@pytest.mark.parametrize("split", ["train", "val"])
def test_target_bytes_that_the_text_does_not_have_are_found(folder, split):
    """What a manifest without a hash of its content may say wrongly: bits per byte would be wrong by as much."""
    shard = entry(folder, split)
    list_first_shard(folder, split, dataclasses.replace(shard, target_bytes=shard.target_bytes - 1))
    found = f"{shard.name} has target_bytes {shard.target_bytes} and the manifest says {shard.target_bytes - 1}"
    with pytest.raises(
        UserError,
        match=f"{folder} must hold what its manifest.json says, and {found}: copy it again from where it was made",
    ):
        verify(str(folder))


def test_records_that_are_counted_to_another_shard_are_found(folder):
    manifest = read_manifest(str(folder))
    first, second, *rest = manifest.train.shards
    moved = (
        dataclasses.replace(first, records=first.records + 1),
        dataclasses.replace(second, records=second.records - 1),
        *rest,
    )
    train = dataclasses.replace(manifest.train, shards=moved)
    write_manifest(str(folder), dataclasses.replace(manifest, train=train))
    with pytest.raises(UserError) as raised:
        verify(str(folder))
    for shard in moved[:2]:
        assert f"{shard.name} has records " in str(raised.value)


def test_another_size_of_the_vocabulary_than_the_tokenizers_is_found(folder):
    manifest = read_manifest(str(folder))
    write_manifest(str(folder), dataclasses.replace(manifest, vocab_size=285, eos_id=284))
    with pytest.raises(UserError, match="the manifest says vocab_size 285 and the tokenizer has 284 ids"):
        verify(str(folder))


SPOILT = {
    "missing": (lambda folder: (folder / FIRST).unlink(), f"{FIRST} is missing"),
    "cut": (lambda folder: (folder / FIRST).write_bytes((folder / FIRST).read_bytes()[:-1]), f"{FIRST} has size_bytes"),
    "flipped": (lambda folder: flip_bit(folder / FIRST), f"{FIRST} has crc32c"),
    "damaged with its checksum": (lambda folder: flip_bit_unnoticed(folder, "train", 60), f"{FIRST} is damaged"),
    "beyond the vocabulary": (lambda folder: write_foreign_id(folder, "train"), f"{FIRST} has 284"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_shard_is_named_with_what_is_wrong(folder, kind):
    spoil, found = SPOILT[kind]
    spoil(folder)
    with pytest.raises(UserError, match=found):
        verify(str(folder))


def test_of_many_differences_the_first_are_named_and_the_others_counted(folder):
    manifest = read_manifest(str(folder))
    for shard in (*manifest.train.shards, *manifest.val.shards):
        flip_bit(folder / shard.name)
        (folder / shard.name).write_bytes((folder / shard.name).read_bytes() + b"x")
    with pytest.raises(UserError, match=", and 7 more differ: copy it again"):
        verify(str(folder))


def test_a_folder_on_cloud_storage_is_verified(bucket, folder):
    remote = f"{bucket}/verified"
    for file in folder.iterdir():
        storage.write_bytes(f"{remote}/{file.name}", file.read_bytes())
    assert verify(remote)["train"]["records"] == read_manifest(str(folder)).train.records
    storage.of(remote).delete_file(f"{remote}/{FIRST}")
    with pytest.raises(UserError, match=f"{FIRST} is missing"):
        verify(remote)


def test_an_entry_in_a_manifest_without_a_hash_is_compared(folder):
    fields = json.loads((folder / "manifest.json").read_text())
    del fields["content_sha256"]
    fields["val"]["shards"][0]["target_bytes"] += 1
    (folder / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(UserError, match="target_bytes"):
        verify(str(folder))
