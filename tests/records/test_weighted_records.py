"""Records whose targets have weights: their bytes, their batches and the checks of their manifest."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conversations import conversations, make_records, write_conversations
from saved_tokenizer import save_tokenizer

from algpt2.errors import UserError
from algpt2.records.indexing import index_tfrecords
from algpt2.records.input_pipeline import train_batches, val_batches
from algpt2.records.inspection import inspect
from algpt2.records.manifest import parse_manifest, read_manifest
from algpt2.records.record_bytes import weighted_frame
from algpt2.records.record_set import open_record_set
from algpt2.records.statistics import statistics
from algpt2.records.tfrecords import parse_weights
from algpt2.records.verification import verify
from algpt2.records.weighted_writing import write_weighted_shard
from algpt2.text.tokenizer import Tokenizer

BATCH_SIZE = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    texts = [json.dumps(one) for one in conversations()]
    path = tmp_path_factory.mktemp("weighted")
    chat_file, tokenizer = write_conversations(path / "chat.jsonl"), save_tokenizer(tmp_path_factory, texts)
    make_records(path / "records", chat_file, tokenizer, num_shards=2)
    return str(path / "records")


def context(hosts=1, host=0, replicas=1):
    return tf.distribute.InputContext(hosts, host, replicas)


def test_the_frame_is_what_tensorflow_writes_and_reads(tmp_path):
    """Catches: a wrong length of a nested message, and features in another order."""
    for size in (3, 200, 20000):
        ids, weights = bytes(range(100)) * size, bytes([0, 1]) * size
        features = {"ids": ids, "weights": weights}
        lists = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[v])) for name, v in features.items()}
        example = tf.train.Example(features=tf.train.Features(feature=lists))
        with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
            writer.write(example.SerializeToString(deterministic=True))
        assert weighted_frame(ids, weights) == (tmp_path / "theirs").read_bytes()


@pytest.mark.parametrize("weights", [b"\0\1", b"\0\1\1\0", b"\0\2\1"])
def test_weights_of_another_number_or_value_are_refused(weights):
    serialized = tf.constant([weighted_frame(b"", weights)[12:-4]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="a weight of 0 or 1 for each of its seq_len targets"):
        parse_weights(serialized, 3)


@pytest.mark.parametrize(("hosts", "replicas"), [(1, 2), (2, 2), (2, 4)])
def test_weights_have_the_mean_one_over_the_global_batch_on_any_number_of_hosts(folder, hosts, replicas):
    """Catches: a mean over each replica's or each host's rows, by which short replies would count for more."""
    records = open_record_set([folder], "train")
    ((ids, weights),) = train_batches(records, BATCH_SIZE, 0, 1, context()).take(1)
    assert set(np.unique(weights)) == {0, np.float32(weights.numpy().size / np.count_nonzero(weights))}
    parts = [
        part
        for host in range(hosts)
        for part in train_batches(records, BATCH_SIZE, 0, 1, context(hosts, host, replicas)).take(replicas // hosts)
    ]
    np.testing.assert_array_equal(np.concatenate([one for one, _ in parts]), ids)
    np.testing.assert_array_equal(np.concatenate([one for _, one in parts]), weights)


def test_validation_has_the_stored_weights_and_0_for_what_fills_up_the_last_batch(folder):
    records = open_record_set([folder], "val")
    batches = list(val_batches(records, BATCH_SIZE, context()))
    assert records.records % BATCH_SIZE, "the test needs a last batch that is not full"
    assert {weights.shape[1] for _, weights in batches} == {records.seq_len}
    assert sum(weights.numpy().sum() for _, weights in batches) == records.target_count
    assert records.target_count < records.records * records.seq_len / 2


def test_a_look_into_the_records_counts_conversations(folder):
    found = inspect(folder, "train", 1)
    assert found["records"][0]["text"].startswith("<|endoftext|><|im_start|>")
    figures = statistics(folder, "train")
    manifest = read_manifest(folder)
    assert figures["documents_in_a_record"] == {"1": manifest.train.records}
    lengths = figures["document_tokens"]
    tokens = manifest.train.input_tokens - manifest.train.documents
    assert (lengths["count"], lengths["mean"]) == (manifest.train.documents, pytest.approx(tokens / lengths["count"]))


def test_a_folder_without_a_manifest_is_indexed_with_the_same_counts(folder, tmp_path):
    manifest = read_manifest(folder)
    for shard in (*manifest.train.shards, *manifest.val.shards):
        shutil.copy(f"{folder}/{shard.name}", tmp_path)
    index_tfrecords(str(tmp_path), folder, "val*")
    found = read_manifest(str(tmp_path))
    assert (found.train.shards, found.val.shards) == (manifest.train.shards, manifest.val.shards)
    assert open_record_set([str(tmp_path)], "train").target_count == manifest.train.weighted_targets


def test_a_weight_that_was_changed_is_found(folder, tmp_path):
    """Catches: a verification that compares checksums alone, or counts targets without their weights."""
    manifest, tokenizer = read_manifest(folder), Tokenizer.load(folder)
    tokenizer.save(str(tmp_path))
    records = np.full((3, manifest.seq_len + 1), tokenizer.eos_id)
    records[:, 1:4] = 5
    weights = np.zeros((3, manifest.seq_len), int)
    weights[:, 1] = 1
    lengths = tokenizer.token_byte_lengths()
    shard = write_weighted_shard(str(tmp_path / "train-0"), records, weights, lengths, tokenizer.eos_id)
    split = dataclasses.replace(
        manifest.train, documents=3, text_bytes=99, input_tokens=12, target_tokens=3 * manifest.seq_len, shards=(shard,)
    )
    empty = dataclasses.replace(split, documents=0, text_bytes=0, input_tokens=0, target_tokens=0, shards=())
    sound = dataclasses.replace(manifest, train=split, val=empty)
    (tmp_path / "manifest.json").write_text(sound.to_json())
    assert verify(str(tmp_path))["train"]["weighted_targets"] == 3
    lying = dataclasses.replace(split, shards=(dataclasses.replace(shard, weighted_targets=2),))
    (tmp_path / "manifest.json").write_text(dataclasses.replace(sound, train=lying).to_json())
    with pytest.raises(UserError, match="has weighted_targets 3 and the manifest says 2"):
        verify(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"record_format": "ids"}, "packing must be one of|last of the"),
        ({"packing": "stream"}, "packing must be one of"),
        ({"eos_id": 301}, "not the last of the .* ids of its vocab_size but 2"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(folder, change, rule):
    with pytest.raises(ValueError, match=rule):
        dataclasses.replace(read_manifest(folder), **change)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("weighted_targets", 10**6, "weighted_targets .* are more than target_tokens"),
        ("target_bytes", 10**6, "target_bytes .* are more than text_bytes"),
        ("weighted_targets", None, "do not have weighted_targets|spell only"),
    ],
)
def test_counts_of_weighted_targets_that_cannot_be_are_refused(folder, field, value, rule):
    fields = json.loads(read_manifest(folder).to_json())
    del fields["content_sha256"]
    fields["train"]["shards"][0][field] = value
    with pytest.raises(ValueError, match=rule):
        parse_manifest(json.dumps(fields).encode())
