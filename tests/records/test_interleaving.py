"""The place of an interleave is that of TensorFlow's own, after any number of records."""

import numpy as np
import pytest
import tensorflow as tf

from algpt2.records.interleaving import OpenShard, standing_at


def interleaved(shards, records, readers, block):
    """The (shard, record) pairs that `tf.data` gives, of shards that begin where they are said to."""

    def opened(number, first):
        return tf.data.Dataset.range(first, tf.gather(records, number)).map(lambda record: (number, record))

    records = tf.constant(records, tf.int64)
    numbers = tf.data.Dataset.from_tensor_slices(np.array(shards, np.int64)).map(lambda shard: (shard[0], shard[1]))
    stream = numbers.interleave(opened, readers, block, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return [(int(number), int(record)) for number, record in stream.as_numpy_iterator()]


@pytest.mark.parametrize(
    ("records", "readers", "block"),
    [
        ([7, 3, 12, 1, 9], 3, 4),
        ([4, 8, 4, 8], 2, 4),  # shards that end with a block
        ([4, 4, 4, 4, 4, 4], 4, 2),
        ([5], 1, 4),
        ([1, 0, 2, 0, 0, 3], 2, 2),  # empty shards
        ([100, 100, 101, 99], 4, 16),
        ([100, 3, 100, 100, 5, 100, 100], 4, 16),
    ],
)
def test_a_new_interleave_from_every_place_goes_on_as_the_old_one_would(records, readers, block):
    whole = interleaved([OpenShard(number, 0) for number in range(len(records))], records, readers, block)
    assert len(whole) == sum(records)
    for position in {*range(0, len(whole), 1 + len(whole) // 10), len(whole) - 1, len(whole)}:
        shards, skip = standing_at(position, records, readers, block)
        rest = interleaved(shards, records, readers, block) if shards else []
        assert rest[skip:] == whole[position:], position
        assert skip < block or position == len(whole)


def test_random_sizes(rng):
    for _ in range(10):
        records = rng.integers(0, 40, rng.integers(1, 9)).tolist()
        readers, block = int(rng.integers(1, 5)), int(rng.integers(1, 9))
        whole = interleaved([OpenShard(number, 0) for number in range(len(records))], records, readers, block)
        position = int(rng.integers(0, len(whole) + 1))
        shards, skip = standing_at(position, records, readers, block)
        assert (interleaved(shards, records, readers, block) if shards else [])[skip:] == whole[position:]


def test_a_place_far_into_terabytes_is_found_without_counting_up_to_it():
    records = [10**9] * 1000
    shards, skip = standing_at(sum(records) - 1, records, readers=4, block=16)
    assert shards[0] == (999, 10**9 - 16)
    assert skip == 15
    assert all(first == 10**9 for _, first in shards[1:])
