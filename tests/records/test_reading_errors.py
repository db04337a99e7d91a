"""What becomes of TensorFlow's errors while records are read: which shard a sentence names, and its remedy."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import tensorflow as tf
from batches import context

from algpt2.errors import UserError
from algpt2.records.input_pipeline import train_batches, val_batches
from algpt2.records.reading_errors import InputOutage, reading_errors
from algpt2.records.record_set import open_record_set

BATCH_SIZE = 4
FRAME_BYTES = 16  # a record's length, and the checksums of it and of the data
BUCKET_SHARD = "gs://bucket/records/train-00000-of-00003.tfrecord"


@pytest.fixture
def folder(records_folder, tmp_path):
    """Records of one's own, to spoil."""
    return Path(shutil.copytree(records_folder, tmp_path / "records"))


def spoiled(folder, split, change):
    """Opens a split, which is checked then, and changes its last shard afterwards."""
    record_set = open_record_set([str(folder)], split)
    file = Path(record_set.files[-1])
    change(file, file.stat().st_size // record_set.shards[-1].records)
    return record_set, str(file)


def cut_one_record(file, record_bytes):
    file.write_bytes(file.read_bytes()[:-record_bytes])


def add_one_record(file, record_bytes):
    file.write_bytes(file.read_bytes() + file.read_bytes()[-record_bytes:])


def cut_in_a_record(file, record_bytes):
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(file, record_bytes):
    data = bytearray(file.read_bytes())
    data[record_bytes + FRAME_BYTES] ^= 1
    file.write_bytes(data)


def remove(file, record_bytes):
    file.unlink()


def read_an_epoch(record_set, split):
    with reading_errors(record_set):
        if split == "val":
            list(val_batches(record_set, BATCH_SIZE, context()))
        else:
            batches = train_batches(record_set, BATCH_SIZE, 0, 0, context())
            list(batches.take(record_set.records // BATCH_SIZE + 1))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (cut_one_record, "must have .* bytes and has .* copy it again"),
        (add_one_record, "must have .* bytes and has .* copy it again"),
        (cut_in_a_record, "must have .* bytes and has .* copy it again"),
        (flip_a_bit, "must have CRC32C .* copy it again"),
        (remove, "is gone: copy it there again"),
    ],
)
def test_a_shard_that_changed_after_the_check_is_refused_by_its_name(folder, split, change, remedy):
    """Catches: records of a shard that was cut at a record's end being read as if they were all of them."""
    record_set, file = spoiled(folder, split, change)
    with pytest.raises(UserError, match=remedy) as refused:
        read_an_epoch(record_set, split)
    assert file in str(refused.value)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("more", "found"), [(1, "contained only"), (-1, "contained at least")])
def test_a_shard_with_more_or_fewer_records_than_its_manifest_says_is_refused_by_name(folder, split, more, found):
    """Its size and its checksum are those of the manifest, so only reading it shows which shard it is."""
    record_set = open_record_set([str(folder)], split)
    shards = list(record_set.shards)
    shards[-1] = dataclasses.replace(shards[-1], records=shards[-1].records + more)
    with pytest.raises(UserError, match=f"as many records as its manifest says.*{found}.*copy it again") as refused:
        read_an_epoch(dataclasses.replace(record_set, shards=tuple(shards)), split)
    assert record_set.files[-1] in str(refused.value)


def test_an_id_beyond_the_vocabulary_is_refused_with_a_shard_that_has_one(records_folder):
    record_set = open_record_set([records_folder], "val")
    with pytest.raises(UserError, match="every token id must be below vocab_size = 100") as refused:
        read_an_epoch(dataclasses.replace(record_set, vocab_size=100), "val")
    assert record_set.files[0] in str(refused.value)


def sentence_of(error, records_folder, files=(BUCKET_SHARD,)):
    """Returns what an error that TensorFlow raises while records on gs:// are read becomes."""
    record_set = dataclasses.replace(open_record_set([records_folder], "train"), files=files)
    with pytest.raises((tf.errors.OpError, UserError, InputOutage)) as refused, reading_errors(record_set):
        raise error
    return refused.value


def raised(kind, text):
    """An error as a graph raises it: around what happened stands where it happened."""
    return kind(None, None, f"Graph execution error:\n\nDetected at node x\n\n{text}\n\t [[{{{{node x}}}}]] [Op:f_32]")


@pytest.mark.parametrize(
    ("kind", "text", "becomes", "part"),
    [
        (tf.errors.AbortedError, "All 10 retry attempts failed. The last failure: ", InputOutage, "could not be read"),
        (tf.errors.UnavailableError, "", InputOutage, "could not be read"),
        (tf.errors.DeadlineExceededError, "", InputOutage, "could not be read"),
        (tf.errors.FailedPreconditionError, "", InputOutage, "could not be read"),
        (tf.errors.PermissionDeniedError, "", UserError, "roles/storage.objectViewer"),
        (tf.errors.NotFoundError, "", UserError, "is gone"),
    ],
)
def test_an_error_that_names_a_shard_becomes_a_sentence_that_names_it(records_folder, kind, text, becomes, part):
    text += f"Error executing an HTTP request: HTTP response code 4711\n\t when reading {BUCKET_SHARD}"
    error = sentence_of(raised(kind, text), records_folder)
    assert type(error) is becomes
    assert BUCKET_SHARD in str(error)
    assert part in str(error)
    assert "Detected at" not in str(error)
    if kind is not tf.errors.NotFoundError:
        assert "HTTP response code 4711)" in str(error)


def test_the_longest_of_the_names_that_fit_is_the_one_that_is_meant(records_folder):
    files = (f"{BUCKET_SHARD}.gz", BUCKET_SHARD)
    error = raised(tf.errors.UnavailableError, f"Error executing an HTTP request: when reading {files[0]}")
    assert f"{files[0]} could not be read" in str(sentence_of(error, records_folder, files))


@pytest.mark.parametrize("kind", [tf.errors.UnavailableError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError])
def test_an_error_that_is_not_about_the_records_passes_as_it_is(records_folder, kind):
    error = raised(kind, "Could not find variable")
    assert sentence_of(error, records_folder) is error
