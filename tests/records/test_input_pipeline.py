import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from batches import context, take
from original_records import write_original

from algpt2.records import input_pipeline
from algpt2.records.indexing import index_tfrecords
from algpt2.records.input_pipeline import record_ids, train_batches, val_batches
from algpt2.records.record_set import RecordSet, open_record_set
from algpt2.records.shard_writing import write_shard
from algpt2.records.tfrecords import read_records

BATCH_SIZE = 8


@pytest.fixture(scope="module")
def original_folder(records_folder, tmp_path_factory):
    """The records of `records_folder` as the original project would have written them, indexed."""
    folder = tmp_path_factory.mktemp("original")
    for split in ("train", "val"):
        record_set = open_record_set([records_folder], split)
        for file in record_set.files:
            write_original(folder / Path(file).name, read_records(file, record_set.seq_len, record_set.vocab_size))
    index_tfrecords(str(folder), records_folder, "val*")
    return str(folder)


@pytest.fixture
def train_set(records_folder):
    return open_record_set([records_folder], "train")


def global_batches(record_set, count, seed=0, first_batch=0, hosts=1, replicas=1):
    """Puts the rows of every host and replica together again: (count, BATCH_SIZE, seq_len + 1)."""
    by_host = [
        take(
            train_batches(record_set, BATCH_SIZE, seed, first_batch, context(hosts, host, replicas)),
            count * replicas // hosts,
        )
        for host in range(hosts)
    ]
    local = replicas // hosts
    return np.stack(
        [np.concatenate([part for host in by_host for part in host[k * local : (k + 1) * local]]) for k in range(count)]
    )


def rows(records):
    return sorted(record.tobytes() for record in records)


def all_records(record_set):
    return [r for file in record_set.files for r in read_records(file, record_set.seq_len, record_set.vocab_size)]


def test_a_resumed_stream_reads_nothing_in_front_of_its_window(tmp_path, rng, monkeypatch):
    """What was read before is zeros here, which stop whoever reads them."""
    monkeypatch.setattr(input_pipeline, "SHUFFLE_WINDOW_RECORDS", 16)
    files = tuple(str(tmp_path / name) for name in ("a", "b", "c"))
    shards = tuple(write_shard(file, [rng.integers(0, 300, (4000, 5))], np.ones(300)) for file in files)
    records = RecordSet(files, shards, str(tmp_path), 4, 300, 299, tokenizer_sha256="")
    expected = global_batches(records, 3, first_batch=40)
    seen = Counter(one.file for batch in range(40) for one in record_ids(records, BATCH_SIZE, 0, batch))
    assert min(seen[file] for file in files) >= 96
    for file in files:
        zeros = seen[file] * records.record_bytes
        Path(file).write_bytes(bytes(zeros) + Path(file).read_bytes()[zeros:])
    np.testing.assert_array_equal(global_batches(records, 3, first_batch=40), expected)
    with pytest.raises(tf.errors.DataLossError):
        global_batches(records, 1)


@pytest.mark.parametrize(("hosts", "replicas"), [(1, 2), (2, 2), (2, 4), (4, 8)])
def test_global_batches_are_the_same_on_any_number_of_hosts_and_replicas(train_set, hosts, replicas):
    alone = global_batches(train_set, 5)
    np.testing.assert_array_equal(global_batches(train_set, 5, hosts=hosts, replicas=replicas), alone)


@pytest.mark.parametrize(("hosts", "replicas"), [(1, 1), (2, 4)])
def test_the_original_projects_records_give_the_same_global_batches_as_ours(
    original_folder, train_set, hosts, replicas
):
    original = open_record_set([original_folder], "train")
    assert (original.record_format, train_set.record_format) == ("inputs_labels", "ids")
    count = train_set.records // BATCH_SIZE + 2
    batches = global_batches(original, count, hosts=hosts, replicas=replicas)
    np.testing.assert_array_equal(batches, global_batches(train_set, count))


def test_the_original_projects_records_are_validated_on_as_ours_are(original_folder, records_folder):
    original, ours = (open_record_set([folder], "val") for folder in (original_folder, records_folder))
    for one, other in zip(val_batches(original, 8, context()), val_batches(ours, 8, context()), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    assert (original.records, original.target_bytes) == (ours.records, ours.target_bytes)


@pytest.mark.parametrize("window", [7, input_pipeline.SHUFFLE_WINDOW_RECORDS])
def test_batches_after_a_resume_are_those_of_the_uninterrupted_stream(train_set, monkeypatch, window):
    monkeypatch.setattr(input_pipeline, "SHUFFLE_WINDOW_RECORDS", window)
    batches_an_epoch = train_set.records // BATCH_SIZE
    stream = global_batches(train_set, 2 * batches_an_epoch + 4)
    for first in (1, batches_an_epoch, batches_an_epoch + 3):
        np.testing.assert_array_equal(global_batches(train_set, 3, first_batch=first), stream[first : first + 3])


def test_every_record_appears_exactly_once_in_each_epoch_though_batches_run_across_its_end(train_set):
    assert train_set.records % BATCH_SIZE, "the test needs an epoch that ends inside a batch"
    count = -(-3 * train_set.records // BATCH_SIZE)
    stream = global_batches(train_set, count).reshape(-1, train_set.seq_len + 1)
    expected = rows(all_records(train_set))
    for epoch in range(3):
        assert rows(stream[epoch * train_set.records : (epoch + 1) * train_set.records]) == expected


def test_each_epoch_and_each_seed_has_its_own_order(train_set):
    count = -(-2 * train_set.records // BATCH_SIZE)
    stream = global_batches(train_set, count).reshape(-1, train_set.seq_len + 1)
    first, second = stream[: train_set.records], stream[train_set.records : 2 * train_set.records]
    other_seed = global_batches(train_set, count, seed=1).reshape(-1, train_set.seq_len + 1)[: train_set.records]
    for other in (second, other_seed, np.array(all_records(train_set))):
        assert (first == other).all(axis=1).mean() < 0.2


def test_shuffling_in_windows_keeps_every_record(train_set, monkeypatch):
    monkeypatch.setattr(input_pipeline, "SHUFFLE_WINDOW_RECORDS", 7)
    count = train_set.records // BATCH_SIZE + 1
    stream = global_batches(train_set, count).reshape(-1, train_set.seq_len + 1)[: train_set.records]
    assert rows(stream) == rows(all_records(train_set))


def test_every_window_is_shuffled_within_itself_and_none_stays_as_it_was(train_set, monkeypatch):
    """A shard that is read alone is read in its own order, so it is known what each window held before the shuffle."""
    monkeypatch.setattr(input_pipeline, "SHUFFLE_WINDOW_RECORDS", 7)
    shard = open_record_set([train_set.files[0]], "train")
    count = shard.records // BATCH_SIZE + 1
    stream = global_batches(shard, count).reshape(-1, shard.seq_len + 1)[: shard.records]
    before = np.array(all_records(shard))
    assert shard.records >= 4 * 7, "the test needs a few full windows"
    orders = []
    for first in range(0, shard.records - shard.records % 7, 7):
        window, shuffled = before[first : first + 7], stream[first : first + 7]
        assert rows(shuffled) == rows(window)
        assert not np.array_equal(shuffled, window)
        orders.append(tuple(np.flatnonzero((window == record).all(axis=1))[0] for record in shuffled))
    assert len(set(orders)) == len(orders), "every window has an order of its own"


def test_the_order_does_not_depend_on_tensorflows_global_seed(train_set):
    tf.random.set_seed(1)
    first = global_batches(train_set, 3)
    tf.random.set_seed(2)
    np.testing.assert_array_equal(global_batches(train_set, 3), first)


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("batch_size", [2, 8, 64])
def test_validation_reads_every_record_once_in_order_and_weighs_padding_zero(records_folder, batch_size, replicas):
    val_set = open_record_set([records_folder], "val")
    assert val_set.records % 8, "the test needs a last batch that is not full"
    batches = list(val_batches(val_set, batch_size, context(replicas=replicas)))
    assert len(batches) == replicas * -(-val_set.records // batch_size)
    records = np.concatenate([records.numpy() for records, _ in batches])
    weights = np.concatenate([weights.numpy() for _, weights in batches])
    assert all(len(records) == batch_size // replicas for records, _ in batches)
    np.testing.assert_array_equal(records[weights[:, 0] == 1], all_records(val_set))
    assert weights.sum() == val_set.records


def test_a_token_id_beyond_the_vocabulary_stops_the_input(train_set):
    smaller = dataclasses.replace(train_set, vocab_size=100)
    with pytest.raises(tf.errors.InvalidArgumentError, match="every token id must be below vocab_size = 100"):
        take(train_batches(smaller, BATCH_SIZE, 0, 0, context()), 1)


@pytest.mark.parametrize("batch", [0, 5, 40])
def test_record_ids_name_the_very_records_of_a_batch_in_their_order(train_set, batch):
    """Catches: ids of another seed, epoch or order than the data's; batch 40 lies in a later epoch."""
    ids = input_pipeline.record_ids(train_set, BATCH_SIZE, 3, batch)
    shards = {file: list(read_records(file, train_set.seq_len, train_set.vocab_size)) for file in train_set.files}
    named = np.stack([shards[record.file][record.index] for record in ids])
    (expected,) = global_batches(train_set, 1, seed=3, first_batch=batch)
    np.testing.assert_array_equal(named, expected)


def test_a_record_id_reads_as_shard_and_number():
    assert str(input_pipeline.RecordId("/data/train-00001-of-00003.tfrecord", 7)) == "train-00001-of-00003.tfrecord:7"


@pytest.mark.parametrize(("hosts", "replicas"), [(2, 2), (2, 4), (4, 4)])
def test_hosts_share_out_the_validation_records(records_folder, hosts, replicas):
    """Catches: a host that scores another one's rows, so that some records count twice and others never."""
    val_set = open_record_set([records_folder], "val")
    by_host = [list(val_batches(val_set, BATCH_SIZE, context(hosts, host, replicas))) for host in range(hosts)]
    alone = list(val_batches(val_set, BATCH_SIZE, context()))
    local = replicas // hosts
    for k, (records, weights) in enumerate(alone):
        parts = [part for host in by_host for part in host[k * local : (k + 1) * local]]
        np.testing.assert_array_equal(np.concatenate([one for one, _ in parts]), records)
        np.testing.assert_array_equal(np.concatenate([one for _, one in parts]), weights)
