import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from conftest import ALGPT2_CONFIG

from algpt2.layers import causal_mask, dropout
from algpt2.model import GPT

SEED = np.array([3, 4], "int32")


def mask(seed=SEED, site=0, rate=0.1, shape=(64, 64), dtype="float32"):
    return np.array(dropout(tf.ones(shape, dtype), rate, tf.constant(seed), site)).astype("float64")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_zeroes_the_stated_fraction_and_keeps_the_mean(dtype):
    dropped = mask(rate=0.1, shape=(1000, 1000), dtype=dtype)
    assert (dropped == 0).mean() == pytest.approx(0.1, abs=0.0012)  # 4 standard deviations
    assert np.unique(dropped[dropped > 0]) == pytest.approx([1 / 0.9], rel=4e-3)


def test_a_mask_is_a_function_of_seed_and_site_alone():
    np.testing.assert_array_equal(mask(), mask())
    variants = [mask(), mask(site=1), mask(seed=[3, 1004]), mask(seed=[4, 4])]
    for i, a in enumerate(variants):
        for b in variants[:i]:
            # Independent masks agree on 0.9^2 + 0.1^2 = 82% of their elements.
            assert (a == b).mean() == pytest.approx(0.82, abs=0.04)


def test_dropout_without_a_seed_or_a_rate_changes_nothing():
    x = tf.constant([[1.0, 2.0]])
    assert dropout(x, 0.5, None, 0) is x
    assert dropout(x, 0, SEED, 0) is x


def test_a_shared_block_draws_new_masks_in_each_application():
    config = dataclasses.replace(ALGPT2_CONFIG, dropout=0.5)
    model = GPT(config)
    x = model.embed(np.zeros((1, 16), "int32"))
    first, again, second = (model.h[0](x, dropout_seed=tf.constant(SEED), application=i).numpy() for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-3


def test_dropout_acts_in_training_only():
    model = GPT(dataclasses.replace(ALGPT2_CONFIG, dropout=0.5))
    ids = np.zeros((1, 16), "int32")
    np.testing.assert_array_equal(model(ids, dropout_seed=SEED).numpy(), model(ids).numpy())
    assert np.abs(model(ids, training=True, dropout_seed=SEED).numpy() - model(ids).numpy()).max() > 1e-3


def test_a_query_sees_keys_up_to_its_own_position():
    expected = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    np.testing.assert_array_equal(np.array(causal_mask(2, 5, first_position=2)), np.array(expected, bool))
