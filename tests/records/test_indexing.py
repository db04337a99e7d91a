"""Folders of TFRecords made elsewhere: indexed if every record is sound, else refused and left as they were."""

import dataclasses
import json
import re
import runpy
import shutil

import numpy as np
import pytest
import tensorflow as tf
from original_records import serialize_ids, serialize_original, write_original, write_serialized
from places import REPOSITORY
from tiny_models import ALGPT2_CONFIG

from algpt2 import cli
from algpt2.config.cadence import Cadence
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.records import recounting
from algpt2.records.indexing import index_tfrecords
from algpt2.records.inspection import inspect
from algpt2.records.manifest import read_manifest
from algpt2.records.record_set import open_record_set
from algpt2.records.tfrecords import read_records
from algpt2.runs.plan import Run
from algpt2.text.tokenizer import Tokenizer
from algpt2.training.loop import train

SEQ_LEN, VOCAB_SIZE = 8, 270
RECORDS = np.random.default_rng(0).integers(0, VOCAB_SIZE, (12, SEQ_LEN + 1))
SPLITS = {"train-0.tfrecord": RECORDS[:5], "train-1.tfrecord": RECORDS[5:9], "val-0.tfrecord": RECORDS[9:]}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a tokenizer of 270 ids."""
    folder = tmp_path_factory.mktemp("tokenizer")
    made = Tokenizer.train([f"the cat {word} sat on the mat" for word in ("that", "hat", "bat")] * 9, VOCAB_SIZE)
    assert made.vocab_size == VOCAB_SIZE
    made.save(str(folder))
    return str(folder)


@pytest.fixture
def folder(tmp_path):
    """A folder as the original project leaves it."""
    (tmp_path / "data").mkdir()
    for name, records in SPLITS.items():
        write_original(tmp_path / "data" / name, records)
    return tmp_path / "data"


def write_ours(path, records):
    write_serialized(path, [serialize_ids(record, VOCAB_SIZE) for record in records])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def index(folder, tokenizer, val_pattern="val*"):
    return index_tfrecords(str(folder), tokenizer, val_pattern)


def refused(folder, tokenizer, *parts):
    """Asserts that a folder is refused in a sentence with `parts`, and that nothing is written."""
    before = contents(folder)
    with pytest.raises(UserError) as raised:
        index(folder, tokenizer)
    assert all(part in str(raised.value) for part in parts), str(raised.value)
    assert contents(folder) == before


@pytest.mark.parametrize(("write", "record_format"), [(write_original, "inputs_labels"), (write_ours, "ids")])
def test_an_indexed_folder_opens_with_the_records_that_are_in_it(folder, tokenizer, write, record_format):
    for name, records in SPLITS.items():
        write(folder / name, records)
    before = contents(folder)
    index(folder, tokenizer)
    assert {**contents(folder), **before} == contents(folder), "the records themselves stay as they are"
    for split, expected in (("train", RECORDS[:9]), ("val", RECORDS[9:])):
        record_set = open_record_set([str(folder)], split)
        assert (record_set.record_format, record_set.seq_len) == (record_format, SEQ_LEN)
        read = [r for f in record_set.files for r in read_records(f, SEQ_LEN, VOCAB_SIZE, record_format)]
        np.testing.assert_array_equal(read, expected)


def test_counts_say_what_the_records_tell_and_null_for_what_they_do_not(folder, tokenizer):
    counts = index(folder, tokenizer)
    byte_lengths = Tokenizer.load(tokenizer).token_byte_lengths()
    for split, records, shards in (("train", RECORDS[:9], 2), ("val", RECORDS[9:], 1)):
        assert counts[split] == {
            **{"documents": None, "text_bytes": None, "input_tokens": None, "tail_tokens": None},
            **{"lost_tokens": None, "false_eos": None},
            **{"duplicate_documents": None, "near_duplicate_documents": None},
            **{"records": len(records), "shards": shards, "target_tokens": len(records) * SEQ_LEN},
            "target_bytes": byte_lengths[records[:, 1:]].sum(),
        }
    assert (counts["seq_len"], counts["vocab_size"], counts["eos_id"]) == (SEQ_LEN, VOCAB_SIZE, VOCAB_SIZE - 1)
    assert (counts["seed"], counts["val_fraction"]) == (None, None)
    assert Tokenizer.load(str(folder)).sha256 == counts["tokenizer_sha256"]


@pytest.mark.parametrize(
    ("pattern", "val"),
    [("val*", ["val-0.tfrecord"]), ("*-0.*", ["train-0.tfrecord", "val-0.tfrecord"]), ("", []), ("*", [*SPLITS])],
)
def test_files_whose_names_match_the_pattern_are_the_val_split(folder, tokenizer, pattern, val):
    index(folder, tokenizer, pattern)
    manifest = read_manifest(str(folder))
    assert [shard.name for shard in manifest.val.shards] == val
    assert [shard.name for shard in manifest.train.shards] == [name for name in SPLITS if name not in val]


def test_records_are_counted_and_numbered_across_batches(folder, tokenizer, monkeypatch):
    expected = index(shutil.copytree(folder, folder.parent / "whole"), tokenizer)
    monkeypatch.setattr(recounting, "BATCH_RECORDS", 2)
    assert index(shutil.copytree(folder, folder.parent / "parts"), tokenizer)["train"] == expected["train"]
    write_original(folder / "train-1.tfrecord", [*RECORDS[:3], RECORDS[0] + VOCAB_SIZE])
    refused(folder, tokenizer, f"record 3 of {folder}/train-1.tfrecord")


def test_shards_may_have_any_name_and_other_files_are_listed_as_ignored(folder, tokenizer):
    write_original(folder / "openwebtext-00000-of-00001", RECORDS)
    (folder / "README").write_text("Records of 2020.")
    (folder / "empty").touch()
    (folder / "older").mkdir()
    write_original(folder / "older" / "train.tfrecord", RECORDS)
    counts = index(folder, tokenizer)
    assert counts["ignored_files"] == [str(folder / name) for name in ("README", "empty", "older/train.tfrecord")]
    assert counts["train"]["records"] == 9 + 12


def test_a_folder_may_be_named_in_any_way(folder, tokenizer, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert index("./data//", tokenizer)["train"]["records"] == 9
    assert open_record_set(["data"], "val").records == 3


def test_training_validation_and_inspection_take_an_indexed_folder(folder, tokenizer, tmp_path):
    index(folder, tokenizer)
    run = Run(
        model_config=dataclasses.replace(ALGPT2_CONFIG, vocab_size=VOCAB_SIZE, seq_len=SEQ_LEN, n_layer=1),
        train_config=TrainConfig(total_steps=2, batch_size=4, jit_compile=False),
        cadence=Cadence(),
        train_records=open_record_set([str(folder)], "train"),
        val_records=open_record_set([str(folder)], "val"),
        model_dir=str(tmp_path / "run"),
    )
    assert np.isfinite(train(run, tf.distribute.get_strategy())["val_bits_per_byte"])
    shown = inspect(str(folder), "val", 5)["records"]
    assert [record["text"] for record in shown] == [Tokenizer.load(tokenizer).decode(ids) for ids in RECORDS[9:]]


@pytest.mark.parametrize(
    "name", ["manifest.json", "tokenizer.json", "vocab.json", "merges.txt", "encoder.json", "vocab.bpe"]
)
def test_a_manifest_or_tokenizer_that_is_there_is_never_overwritten(folder, tokenizer, name):
    (folder / name).write_text("mine")
    refused(folder, tokenizer, "never overwritten", name)


def test_a_folder_that_is_indexed_is_not_indexed_again(folder, tokenizer):
    index(folder, tokenizer)
    refused(folder, tokenizer, "never overwritten", "manifest.json")


@pytest.mark.parametrize("files", [(), ("notes.txt",), ("deeper/train.tfrecord",)])
def test_a_folder_without_tfrecords_is_refused(tmp_path, tokenizer, files):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text, and enough of it")
    refused(tmp_path, tokenizer, "must hold TFRecord files", str(tmp_path))
    refused(tmp_path / "none", tokenizer, "must hold TFRecord files", str(tmp_path / "none"))


def test_a_file_without_records_is_refused_by_name(folder, tokenizer):
    for name in ("train-0.tfrecord", "val-0.tfrecord"):
        (folder / name).write_bytes(b"")
        refused(folder, tokenizer, "must hold records", f"{folder}/{name}")
        write_original(folder / name, RECORDS)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-3], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b"\x1f\x8b" + data]
)
@pytest.mark.parametrize("name", SPLITS)
def test_a_damaged_file_is_refused_by_name(folder, tokenizer, name, change):
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    refused(folder, tokenizer, f"{folder}/{name} is damaged", "copy it again")


BAD_RECORDS = {
    "of another length": (serialize_original(RECORDS[0][:-2]), "seq_len + 1 ids, 9 as", "has 7"),
    "of our format": (serialize_ids(RECORDS[0], VOCAB_SIZE), "one format, inputs_labels", "has ids"),
    "with fewer labels": (serialize_original(inputs=[1] * 8, labels=[1] * 7), "has 8 inputs and 7 labels"),
    "whose labels do not continue": (serialize_original(inputs=[1] * 8, labels=[2] * 8), "one id further on"),
    "without labels": (serialize_original(inputs=[1] * 8), "has the features ['inputs']"),
    "without ids": (serialize_original(inputs=[], labels=[]), "has 0 ids"),
    "that is no Example": (b"\xff" * 20, "tf.train.Example", "is not one"),
    "beyond the vocabulary": (
        serialize_original(RECORDS[0] + VOCAB_SIZE),
        f"vocab_size of the tokenizer, {VOCAB_SIZE}",
    ),
    "beyond int32": (serialize_original([2**32 + 5, *RECORDS[0][1:]]), "has 4294967301"),
    "below zero": (serialize_original([-1, *RECORDS[0][1:]]), "has -1"),
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_bad_record_is_refused_by_file_and_number(folder, tokenizer, kind):
    bad, *parts = BAD_RECORDS[kind]
    good = [serialize_original(record) for record in RECORDS[:4]]
    write_serialized(folder / "val-0.tfrecord", [*good, bad, good[0]])
    refused(folder, tokenizer, f"record 4 of {folder}/val-0.tfrecord", *parts)


@pytest.mark.parametrize("size", [0, 3, SEQ_LEN * 2])
def test_a_bad_record_in_a_folder_of_our_format_is_refused_too(folder, tokenizer, size):
    stored = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\0" * size]))
    bad = tf.train.Example(features=tf.train.Features(feature={"ids": stored})).SerializeToString()
    for name, records in SPLITS.items():
        write_ours(folder / name, records)
    write_serialized(folder / "train-1.tfrecord", [serialize_ids(RECORDS[0], VOCAB_SIZE), bad])
    refused(folder, tokenizer, f"record 1 of {folder}/train-1.tfrecord")


@pytest.mark.parametrize("kind", ["with fewer labels", "without labels", "without ids", "that is no Example"])
def test_a_first_record_of_no_known_format_is_refused(folder, tokenizer, kind):
    bad, *parts = BAD_RECORDS[kind]
    write_serialized(folder / "train-0.tfrecord", [bad])
    refused(folder, tokenizer, f"record 0 of {folder}/train-0.tfrecord", *parts)


def test_a_folder_without_a_tokenizer_is_named(folder, tmp_path):
    refused(folder, str(tmp_path / "none"), "a tokenizer folder must hold", str(tmp_path / "none"))


def test_the_manifest_comes_last(folder, tokenizer, monkeypatch):
    def fail(self, folder):
        raise OSError("disk")

    monkeypatch.setattr(Tokenizer, "save", fail)
    before = contents(folder)
    with pytest.raises(OSError, match="disk"):
        index(folder, tokenizer)
    assert contents(folder) == before


def test_the_script_prints_the_counts_and_shows_progress_on_stderr(folder, tokenizer, capsys):
    main = runpy.run_path(str(REPOSITORY / "data_tools" / "index_tfrecords.py"))["main"]
    arguments = ["--input", str(folder), "--tokenizer", tokenizer, "--val_pattern", "train-1*"]
    assert cli.exit_status(main, arguments) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert (result["train"]["records"], result["val"]["records"], result["record_format"]) == (8, 4, "inputs_labels")
    assert re.search(r"checking records: 100%.*B", captured.err)
    assert cli.exit_status(main, arguments) == 2
    assert capsys.readouterr().err.startswith("error: a folder to be indexed must have no manifest")
