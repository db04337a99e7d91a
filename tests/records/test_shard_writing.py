"""A shard is written whole or not at all, and its entry says what is in it."""

import numpy as np
import pytest

from algpt2.records.shard_writing import write_shard
from algpt2.records.tfrecords import read_records
from algpt2.storage.local import LocalStorage

SEQ_LEN = 7


def test_a_shard_holds_the_records_of_all_blocks_and_its_entry_describes_the_file(tmp_path, rng):
    records, path = rng.integers(0, 300, (5, SEQ_LEN + 1)), str(tmp_path / "train-00000-of-00001.tfrecord")
    byte_lengths = np.arange(300)
    shard = write_shard(path, iter([records[:2], records[2:2], records[2:]]), byte_lengths)
    np.testing.assert_array_equal(list(read_records(path, SEQ_LEN, 300)), records)
    assert (shard.name, shard.records) == ("train-00000-of-00001.tfrecord", 5)
    assert shard.size_bytes == LocalStorage().size_bytes(path)
    assert shard.crc32c == LocalStorage().crc32c(path)
    assert shard.target_bytes == sum(sum(int(id_) for id_ in record[1:]) for record in records)


def test_a_shard_that_fails_midway_leaves_no_file(tmp_path):
    def failing():
        yield np.zeros((1, SEQ_LEN + 1), int)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_shard(str(tmp_path / "a.tfrecord"), failing(), np.full(300, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ids", [[1, 300], [-1, 1], [0, 70_000]])
def test_an_id_outside_the_vocabulary_is_not_written_as_another(tmp_path, ids):
    with pytest.raises(ValueError, match="from 0 to 299"):
        write_shard(str(tmp_path / "a.tfrecord"), [np.array([ids])], np.full(300, 2))
    assert list(tmp_path.iterdir()) == []
