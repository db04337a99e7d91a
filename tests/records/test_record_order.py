"""The order of the records as a function of seed and epoch, seen through the places of records that need no files."""

import numpy as np
import pytest

from algpt2.records import input_pipeline
from algpt2.records.input_pipeline import record_ids
from algpt2.records.record_set import RecordSet
from algpt2.records.shard_entry import Shard

N_SHARDS, RECORDS_A_SHARD = 8, 6
EPOCHS = 4


@pytest.fixture
def record_set():
    shards = tuple(Shard(f"train-{i}", RECORDS_A_SHARD, 1, "0" * 8, 100) for i in range(N_SHARDS))
    return RecordSet(tuple(shard.name for shard in shards), shards, "", 16, 300, 299, "")


def order_of_epoch(record_set, epoch, seed=0):
    """Returns the numbers of the records of one epoch, counted over all shards."""
    ids = record_ids(record_set, record_set.records, seed, epoch)
    return [record_set.files.index(one.file) * RECORDS_A_SHARD + one.index for one in ids]


def test_the_shards_stand_in_another_order_in_each_epoch_and_for_each_seed(record_set, monkeypatch):
    """With one reader and windows of one record, nothing is shuffled but the shards."""
    monkeypatch.setattr(input_pipeline, "PARALLEL_READERS", 1)
    monkeypatch.setattr(input_pipeline, "SHUFFLE_WINDOW_RECORDS", 1)
    epochs = [order_of_epoch(record_set, epoch, seed) for seed in (0, 1) for epoch in range(EPOCHS)]
    shard_orders = [tuple(number // RECORDS_A_SHARD for number in epoch[::RECORDS_A_SHARD]) for epoch in epochs]
    for epoch, shards in zip(epochs, shard_orders, strict=True):
        assert sorted(shards) == list(range(N_SHARDS))
        assert epoch == [shard * RECORDS_A_SHARD + i for shard in shards for i in range(RECORDS_A_SHARD)]
    assert len(set(shard_orders)) == len(shard_orders), "8! orders are enough for 8 epochs"


def test_every_window_of_every_epoch_is_permuted_in_a_way_of_its_own(record_set, monkeypatch):
    """A window is known from the one shard that it holds, because a reader reads a whole shard before the next."""
    monkeypatch.setattr(input_pipeline, "PARALLEL_READERS", 1)
    monkeypatch.setattr(input_pipeline, "SHUFFLE_WINDOW_RECORDS", RECORDS_A_SHARD)
    orders = []
    for epoch in range(2):
        windows = np.array(order_of_epoch(record_set, epoch)).reshape(N_SHARDS, RECORDS_A_SHARD)
        orders += [tuple(window % RECORDS_A_SHARD) for window in windows]
        assert all(len(set(window // RECORDS_A_SHARD)) == 1 for window in windows)
    # Of 720 orders, 16 drawn at random are all different with a probability of 85%, and the seed is fixed.
    assert len(set(orders)) >= 15
    assert tuple(range(RECORDS_A_SHARD)) not in orders
