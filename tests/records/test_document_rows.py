"""Rows that documents are packed into anew in each epoch: the same on every machine, and no token lost or doubled."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from batches import context, take
from document_shards import EOS, SEQ_LEN, write_documents

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.records import document_order, document_rows
from algpt2.records.document_lengths import read_lengths, write_lengths
from algpt2.records.document_order import blocks_of
from algpt2.records.input_pipeline import record_ids, train_batches
from algpt2.records.reading_errors import reading_errors

BATCH_SIZE = 8
# Ids of a block, and of a window: several windows, windows below the size of a row, and all in one.
SIZES = {"windows": (64, 640), "small": (5, 7), "one": (1 << 16, 1 << 24)}


@pytest.fixture(scope="module")
def record_set(tmp_path_factory):
    """Three shards of documents of 0 to 40 ids, and one of 300."""
    sizes = np.random.default_rng(0).integers(0, 41, (3, 70)).tolist()
    sizes[1][5] = 300
    return write_documents(tmp_path_factory.mktemp("documents"), sizes)


@pytest.fixture(params=SIZES)
def sizes(request, monkeypatch):
    set_sizes(monkeypatch, request.param)


def set_sizes(monkeypatch, name):
    block, window = SIZES[name]
    monkeypatch.setattr(document_order, "BLOCK_TOKENS", block)
    monkeypatch.setattr(document_rows, "WINDOW_TOKENS", window)


def batches(record_set, count, seed=0, first=0, hosts=1, replicas=1):
    """Global batches, with the rows of all hosts and replicas together again: (count, BATCH_SIZE, seq_len + 1)."""
    parts = [
        take(
            train_batches(record_set, BATCH_SIZE, seed, first, context(hosts, host, replicas)),
            count * replicas // hosts,
        )
        for host in range(hosts)
    ]
    by_host = np.array(parts).reshape(hosts, count, -1, SEQ_LEN + 1)
    return by_host.transpose(1, 0, 2, 3).reshape(count, BATCH_SIZE, SEQ_LEN + 1)


def epochs(record_set, count, seed=0):
    """The rows of the first epochs: (count, rows, seq_len + 1)."""
    rows = record_set.records
    stream = batches(record_set, -(-count * rows // BATCH_SIZE), seed).reshape(-1, SEQ_LEN + 1)
    return stream[: count * rows].reshape(count, rows, SEQ_LEN + 1)


def tokens_of(record_set):
    return sum(shard.tokens for shard in record_set.shards)


def lengths_of(record_set):
    pairs = zip(record_set.files, record_set.shards, strict=True)
    return np.concatenate([read_lengths(*one) for one in pairs]).astype(np.int64)


def neighbours(rows):
    """The last id of a document and the first of the next, wherever both stand in one row."""
    places = np.argwhere(rows[:, 1:-1] == EOS)
    pairs = {(rows[row, place], rows[row, place + 2]) for row, place in places.tolist()}
    return {pair for pair in pairs if EOS not in pair}


def test_an_epoch_has_every_token_once_but_for_a_tail_that_fills_no_row(record_set, sizes):
    tokens = tokens_of(record_set)
    assert record_set.records == (tokens - 1) // SEQ_LEN
    assert record_set.records % BATCH_SIZE, "the test needs an epoch that ends inside a batch"
    for rows in epochs(record_set, 3):
        targets = rows[:, 1:].ravel()
        text = targets[targets != EOS]
        assert len(set(text.tolist())) == len(text), "no token is doubled"
        documents = sum(shard.records for shard in record_set.shards)
        lost = tokens - documents - len(text)
        assert 0 <= lost <= (tokens - 1) % SEQ_LEN
        # EOS in front of all is no target, and others may be in the tail.
        assert (targets == EOS).sum() == documents - 1 - ((tokens - 1) % SEQ_LEN - lost)


def test_ids_of_a_document_stand_in_their_order_with_one_eos_in_front(record_set, sizes):
    lengths = lengths_of(record_set)
    firsts = set((np.cumsum(lengths - 1) - (lengths - 1))[lengths > 1].tolist())
    (rows,) = epochs(record_set, 1)
    before, after = rows[:, :-1].ravel(), rows[:, 1:].ravel()
    within = (before != EOS) & (after != EOS)
    np.testing.assert_array_equal(after[within], before[within] + 1)
    assert set(after[(before == EOS) & (after != EOS)].tolist()) <= firsts
    assert not firsts & set(after[within].tolist())
    # The stream goes on from one row to another: each row but the first begins with the last id of one.
    assert len(set(rows[:, 0].tolist()) - set(rows[:, -1].tolist()) - {EOS}) == 0


def test_documents_have_other_neighbours_in_each_epoch_and_for_each_seed(record_set, monkeypatch):
    for name in ("windows", "one"):
        set_sizes(monkeypatch, name)
        found = [neighbours(rows) for rows in (*epochs(record_set, 3), *epochs(record_set, 1, seed=1))]
        assert min(map(len, found)) > 50
        shared = [len(one & other) for i, one in enumerate(found) for other in found[:i]]
        assert max(shared) < 10


def test_documents_of_different_shards_and_blocks_come_together_in_a_window(record_set, monkeypatch):
    set_sizes(monkeypatch, "windows")
    first = [str(one).split("+") for batch in range(3) for one in record_ids(record_set, BATCH_SIZE, 0, batch)]
    shards = {name.rpartition(":")[0] for row in first for name in row}
    assert len(shards) == 3


@pytest.mark.parametrize(("hosts", "replicas"), [(1, 2), (2, 2), (2, 4)])
def test_global_batches_are_the_same_on_any_number_of_hosts_and_replicas(record_set, monkeypatch, hosts, replicas):
    set_sizes(monkeypatch, "windows")
    alone = batches(record_set, 9)
    np.testing.assert_array_equal(batches(record_set, 9, hosts=hosts, replicas=replicas), alone)


def test_batches_after_a_resume_are_those_of_the_uninterrupted_stream(record_set, sizes):
    """Catches: a row that begins in another window than it ends in, and is lost or begun anew."""
    an_epoch = record_set.records // BATCH_SIZE
    stream = batches(record_set, 2 * an_epoch + 4)
    for first in (1, an_epoch // 2, an_epoch, 2 * an_epoch + 1):
        np.testing.assert_array_equal(batches(record_set, 3, first=first), stream[first : first + 3])


def test_a_resume_reads_nothing_but_its_window_and_the_row_that_goes_on_into_it(tmp_path, monkeypatch):
    """Other blocks are zeros here, which stop whoever reads them."""
    set_sizes(monkeypatch, "windows")
    records = write_documents(tmp_path, np.full((3, 70), 20).tolist())
    first = records.records // BATCH_SIZE - 2
    expected = batches(records, 1, first=first)
    blocks = blocks_of(records)
    windows = -(-tokens_of(records) // 640)
    kept = spoil_blocks_but_the_last(records, blocks, 2 * 640 + 64)
    assert kept < len(blocks.tokens) / windows * 4
    np.testing.assert_array_equal(batches(records, 1, first=first), expected)
    with pytest.raises(tf.errors.DataLossError):
        batches(records, 1)


def spoil_blocks_but_the_last(records, blocks, tokens):
    """Overwrites the blocks that an epoch reads first; returns how many are left, which hold about so many tokens."""
    an_epoch = record_ids(records, records.records, 0, 0)
    last = dict.fromkeys((one.file, one.index) for row in reversed(an_epoch) for one in row.documents)
    keep, left = set(), tokens
    for file, index in last:
        number = records.files.index(file) * 70 + index
        block = int(np.searchsorted(blocks.first_document, number, side="right")) - 1
        if block not in keep and left > 0:
            keep.add(block)
            left -= int(blocks.tokens[block])
    for block in set(range(len(blocks.tokens))) - keep:
        file = Path(records.files[blocks.shard[block]])
        data = bytearray(file.read_bytes())
        begin = int(blocks.first_byte[block])
        data[begin : begin + int(blocks.size_bytes[block])] = bytes(int(blocks.size_bytes[block]))
        file.write_bytes(data)
    return len(keep)


@pytest.mark.parametrize("batch", [0, 7, 40])
def test_record_ids_name_the_documents_of_each_row_in_their_order(record_set, monkeypatch, batch):
    set_sizes(monkeypatch, "windows")
    lengths = lengths_of(record_set)
    ends = np.cumsum(lengths - 1)
    (rows,) = batches(record_set, 1, seed=3, first=batch)
    for row, named in zip(rows, record_ids(record_set, BATCH_SIZE, 3, batch), strict=True):
        text = row[row != EOS]
        found = np.unique(np.searchsorted(ends, text, side="right"))
        numbers = [record_set.files.index(one.file) * 70 + one.index for one in named.documents]
        with_text = [number for number in numbers if number in found]
        assert sorted(with_text) == found.tolist()
        assert with_text == list(dict.fromkeys(np.searchsorted(ends, text, side="right").tolist()))
        assert len(numbers) == (row == EOS).sum() + (row[0] != EOS)
    assert str(named).split("+")[0] == f"{Path(named.documents[0].file).name}:{named.documents[0].index}"


def test_lengths_that_are_not_those_of_the_documents_stop_the_input_with_a_sentence(tmp_path):
    records = write_documents(tmp_path, [[20] * 30])
    lengths = read_lengths(records.files[0], records.shards[0]).copy()
    lengths[1] += 1
    shard = dataclasses.replace(records.shards[0], lengths_crc32c=write_lengths(records.files[0], lengths))
    wrong = dataclasses.replace(records, shards=(shard,))
    rule = "documents must have as many ids as the file of their lengths says"
    with pytest.raises(UserError, match=rule), reading_errors(wrong):
        batches(wrong, 1)
    Path(tmp_path / "lengths-train-0.bin").write_bytes(b"1234" * 30)
    with pytest.raises(UserError, match="lengths-train-0.bin must have CRC32C"):
        batches(records, 1)
    Path(tmp_path / "lengths-train-0.bin").unlink()
    with pytest.raises(UserError, match="lengths-train-0.bin is missing"):
        batches(records, 1)


def test_documents_on_cloud_storage_are_read_as_those_on_a_disk_are(record_set, cloud, monkeypatch):
    """TensorFlow's own client reads them; no other test lets it read in this process, where it keeps its address."""
    set_sizes(monkeypatch, "windows")
    for name, value in cloud.environment().items():
        monkeypatch.setenv(name, value)
    for file in Path(record_set.folder).iterdir():
        storage.write_bytes(f"gs://bucket/documents/{file.name}", file.read_bytes())
    files = tuple(f"gs://bucket/documents/{Path(file).name}" for file in record_set.files)
    remote = dataclasses.replace(record_set, files=files, folder="gs://bucket/documents")
    np.testing.assert_array_equal(batches(remote, 3, first=20), batches(record_set, 3, first=20))


def test_an_id_beyond_the_vocabulary_stops_the_input(record_set):
    with pytest.raises(tf.errors.InvalidArgumentError, match="every token id must be below vocab_size = 100"):
        batches(dataclasses.replace(record_set, vocab_size=100), 1)
