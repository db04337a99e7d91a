import numpy as np
import pytest
import tensorflow as tf

from algpt2.dropout import dropout

SEED = np.array([3, 4], "int32")


def mask(seed=SEED, site=0, part=0, rate=0.1, shape=(64, 64), dtype="float32"):
    return np.array(dropout(tf.ones(shape, dtype), rate, tf.constant(seed), site, part)).astype("float64")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_zeroes_the_stated_fraction_and_keeps_the_mean(dtype):
    dropped = mask(rate=0.1, shape=(1000, 1000), dtype=dtype)
    assert (dropped == 0).mean() == pytest.approx(0.1, abs=0.0012)  # 4 standard deviations
    assert np.unique(dropped[dropped > 0]) == pytest.approx([1 / 0.9], rel=4e-3)


def test_a_mask_is_a_function_of_seed_site_and_part_alone():
    np.testing.assert_array_equal(mask(), mask())
    variants = [mask(), mask(site=1), mask(part=1), mask(seed=[3, 1004]), mask(seed=[1003, 4])]
    for i, a in enumerate(variants):
        for b in variants[:i]:
            # Independent masks agree on 0.9^2 + 0.1^2 = 82% of their elements.
            assert (a == b).mean() == pytest.approx(0.82, abs=0.04)


def test_dropout_without_a_seed_or_a_rate_changes_nothing():
    x = tf.constant([[1.0, 2.0]])
    assert dropout(x, 0.5, None, 0) is x
    assert dropout(x, 0, SEED, 0) is x
