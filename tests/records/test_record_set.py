"""The shards that a command line names: found in every way of naming them, and refused when anything is off."""

import dataclasses
import shutil

import numpy as np
import pytest

from algpt2.errors import UserError
from algpt2.records.manifest import Manifest, Split, write_manifest
from algpt2.records.record_set import load_tokenizer, open_record_set
from algpt2.records.shard_writing import write_shard
from algpt2.storage.local import LocalStorage
from algpt2.text.tokenizer import Tokenizer

SEQ_LEN, VOCAB_SIZE = 4, 64


def make_shard(path, n_records, first_id, seq_len):
    records = np.full((n_records, seq_len + 1), first_id) + np.arange(n_records)[:, None]
    return write_shard(str(path), [records], byte_lengths=np.arange(VOCAB_SIZE))


def make_folder(folder, first_id=0, n_train=(2, 3), n_val=(1,), seq_len=SEQ_LEN, vocab_size=VOCAB_SIZE, **changes):
    """A folder of small shards, whose ids differ by `first_id`, and its manifest with `changes`."""
    folder.mkdir()
    splits = {}
    for name, sizes in (("train", n_train), ("val", n_val)):
        shards = [
            make_shard(folder / f"{name}-{i:05d}-of-{len(sizes):05d}.tfrecord", n, first_id + 10 * i, seq_len)
            for i, n in enumerate(sizes)
        ]
        splits[name] = Split(None, None, None, sum(sizes) * seq_len, None, tuple(shards))
    manifest = Manifest(seq_len, vocab_size, vocab_size - 1, "ab" * 32, seed=0, val_fraction=0.1, **splits)
    write_manifest(str(folder), dataclasses.replace(manifest, **changes))
    return folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data")


def shard(folder, index=0):
    return folder / f"train-{index:05d}-of-00002.tfrecord"


def open_train(*paths):
    return open_record_set([str(path) for path in paths], "train")


def test_a_folder_means_the_shards_of_the_split_in_the_manifests_order(folder):
    train, val = open_train(folder), open_record_set([str(folder)], "val")
    assert train.files == (str(shard(folder, 0)), str(shard(folder, 1)))
    assert [s.records for s in train.shards] == [2, 3]
    assert (train.records, val.records) == (5, 1)
    assert val.files == (str(folder / "val-00000-of-00001.tfrecord"),)
    assert (train.folder, train.seq_len, train.vocab_size, train.eos_id) == (str(folder), SEQ_LEN, 64, 63)
    assert (train.tokenizer_sha256, train.record_format) == ("ab" * 32, "ids")


def test_a_folder_a_list_and_a_pattern_name_the_same_records(folder):
    by_folder = open_train(f"{folder}/")
    assert open_train(shard(folder, 0), shard(folder, 1)) == by_folder
    assert open_train(folder / "train-*") == by_folder
    assert open_train(folder / "train-0000[01]-of-00002.tfrecord") == by_folder


def test_shards_stand_in_the_order_in_which_they_are_named(folder):
    assert open_train(shard(folder, 1), shard(folder, 0)).files == (str(shard(folder, 1)), str(shard(folder, 0)))
    assert open_train(shard(folder, 1)).records == 3


def test_two_folders_make_one_set_with_the_first_ones_tokenizer(folder, tmp_path):
    other = make_folder(tmp_path / "another", first_id=30)
    both = open_train(folder, other)
    assert (both.records, both.folder, len(both.files)) == (10, str(folder), 4)


def test_a_fingerprint_is_independent_of_the_location(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "copy")
    assert open_train(copy).fingerprint == open_train(folder).fingerprint
    assert len(open_train(copy).fingerprint) == 64


def test_a_fingerprint_depends_on_content_order_and_tokenizer(folder, tmp_path):
    sets = [
        open_train(folder),
        open_train(shard(folder, 1), shard(folder, 0)),
        open_train(shard(folder, 0)),
        open_train(make_folder(tmp_path / "content", first_id=1)),
        open_train(make_folder(tmp_path / "tokenizer", tokenizer_sha256="cd" * 32)),
    ]
    assert len({record_set.fingerprint for record_set in sets}) == len(sets)


def test_a_shard_that_the_manifest_does_not_list_is_refused(folder):
    stranger = shutil.copy(shard(folder), folder / "train-00002-of-00002.tfrecord")
    for path in (stranger, folder / "*.tfrecord", folder / "*"):
        with pytest.raises(UserError, match="must be listed in its folder's manifest"):
            open_train(path)


def test_a_missing_shard_is_refused_by_name(folder):
    shard(folder, 1).unlink()
    with pytest.raises(UserError, match="train-00001-of-00002.tfrecord is missing"):
        open_train(folder)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: b""])
def test_a_shard_of_another_size_is_refused_with_both_sizes(folder, change):
    data = shard(folder).read_bytes()
    shard(folder).write_bytes(change(data))
    with pytest.raises(UserError, match=f"must have {len(data)} bytes and has {len(change(data))}"):
        open_train(folder)


@pytest.mark.parametrize("place", [0, 40, -1])
def test_one_changed_bit_of_a_shard_is_found_by_its_checksum(folder, place):
    data = bytearray(shard(folder, 1).read_bytes())
    data[place] ^= 1
    shard(folder, 1).write_bytes(data)
    with pytest.raises(UserError, match="train-00001-of-00002.tfrecord must have CRC32C .* damaged"):
        open_train(folder)
    with pytest.raises(UserError, match="damaged"):
        open_train(shard(folder, 0), shard(folder, 1))
    assert open_train(shard(folder, 0)).records == 2, "only the shards that are named are read"


def test_without_a_check_of_the_content_no_shard_is_read_and_the_sizes_are_compared_all_the_same(folder, monkeypatch):
    expected = open_train(folder)
    monkeypatch.setattr(LocalStorage, "crc32c", lambda self, path: pytest.fail(f"{path} is read"))
    assert open_record_set([str(folder)], "train", check_content=False) == expected
    shard(folder, 1).write_bytes(shard(folder, 1).read_bytes()[:-1])
    with pytest.raises(UserError, match="truncated"):
        open_record_set([str(folder)], "train", check_content=False)
    shard(folder, 1).unlink()
    with pytest.raises(UserError, match="is missing"):
        open_record_set([str(folder)], "train", check_content=False)


@pytest.mark.parametrize("name", ["", "train-00000-of-00002.tfrecord", "train-*"])
def test_shards_without_a_manifest_are_refused_as_unfinished(folder, name):
    (folder / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"must hold manifest.json.*unfinished"):
        open_train(folder / name)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seq_len": 8}, "seq_len 4.*seq_len 8"),
        ({"vocab_size": 70}, "70"),
        ({"tokenizer_sha256": "cd" * 32}, "cdcd"),
        ({"record_format": "inputs_labels"}, "record_format ids.*record_format inputs_labels"),
    ],
)
def test_folders_that_disagree_are_refused_with_what_differs(folder, tmp_path, changes, named):
    other = make_folder(tmp_path / "another", **changes)
    with pytest.raises(
        UserError, match=f"must have the same seq_len, tokenizer and record_format, received .*data.*{named}"
    ):
        open_train(folder, other)


def test_a_split_without_shards_is_refused(tmp_path):
    folder = make_folder(tmp_path / "data", n_val=())
    with pytest.raises(UserError, match="--val_path must name shards with records, and .* has no val records"):
        open_record_set([str(folder)], "val")


def test_a_split_whose_shards_are_all_empty_is_refused(tmp_path):
    folder = make_folder(tmp_path / "data", n_val=(0, 0))
    with pytest.raises(UserError, match="has no val records"):
        open_record_set([str(folder)], "val")


@pytest.mark.parametrize("name", ["nothing", "nothing.tfrecord", "nothing-*"])
def test_a_path_at_which_nothing_is_is_refused_by_name(tmp_path, name):
    with pytest.raises(UserError, match="nothing is at") as raised:
        open_train(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)


def test_target_bytes_are_those_of_all_shards_that_are_named(folder):
    """Id n spells n bytes here; shard 0 holds four 0s and four 1s as targets, shard 1 four each of 10, 11 and 12."""
    assert open_train(folder).target_bytes == 4 * 1 + 4 * (10 + 11 + 12)
    assert open_train(shard(folder, 0)).target_bytes == 4 * 1


def test_another_tokenizer_than_that_of_the_records_is_refused(tmp_path):
    """Its ids would mean other texts, and no loss would tell."""
    tokenizer = Tokenizer.train(["a tokenizer that lies beside some records"], 270)
    tokenizer.save(str(tmp_path))
    assert load_tokenizer(str(tmp_path), tokenizer.sha256).vocab_size == tokenizer.vocab_size
    with pytest.raises(UserError, match="must be the one they were made with"):
        load_tokenizer(str(tmp_path), "ab" * 32)


def test_a_shard_that_is_named_twice_is_refused(folder):
    """Its records would count twice in each epoch."""
    with pytest.raises(UserError, match="every shard may be named once"):
        open_train(folder, shard(folder))
