"""Masks against a hash written out in NumPy, and against what independent random bits would do."""

import numpy as np
import pytest
import tensorflow as tf
from marks import needs_host_compiler

from algpt2.devices.compilation import graph_function
from algpt2.model.dropout import Dropout
from algpt2.preflight.step_export import export

SEED = np.array([3, -4], "int32")


def mask(seed=SEED, site=0, rate=0.1, shape=(64, 64), dtype="float32"):
    return np.array(Dropout(rate, tf.constant(seed), site)(tf.ones(shape, dtype))).astype("float64")


def lowbias32(x):
    """The published function, on Python's integers."""
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    return x ^ x >> 16


def test_an_element_is_kept_if_the_hash_of_its_row_and_column_is_at_least_the_rate():
    row_key = lowbias32(3 ^ lowbias32(7))
    column_key = lowbias32(row_key ^ (2**32 - 4))
    kept = np.zeros((2, 3, 5))
    for i, j, k in np.ndindex(kept.shape):
        row, column = lowbias32(row_key + 3 * i + j), lowbias32((column_key + k) % 2**32)
        kept[i, j, k] = lowbias32(row ^ column) >= 0.5 * 2**32
    np.testing.assert_array_equal(mask(site=7, rate=0.5, shape=(2, 3, 5)), 2 * kept)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_zeroes_the_stated_fraction_and_keeps_the_mean(dtype):
    dropped = mask(rate=0.1, shape=(1000, 1000), dtype=dtype)
    assert (dropped == 0).mean() == pytest.approx(0.1, abs=0.0012)  # 4 standard deviations
    assert np.unique(dropped[dropped > 0]) == pytest.approx([1 / 0.9], rel=4e-3)


def test_a_mask_is_a_function_of_seed_and_site_alone():
    np.testing.assert_array_equal(mask(), mask())
    neighbours = [mask(seed=[4, -4]), mask(seed=[3, -3]), mask(seed=[-4, 3])]
    variants = [mask(), mask(site=1), mask(site=2), *neighbours]
    for i, a in enumerate(variants):
        for b in variants[:i]:
            # Independent masks agree on 0.9^2 + 0.1^2 = 82% of their elements.
            assert (a == b).mean() == pytest.approx(0.82, abs=0.025)  # 4 standard deviations


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_and_columns_are_dropped_as_often_as_independent_elements_would_be(axis):
    """Counts along each axis have the mean and the variance of a binomial distribution."""
    counts = (mask(rate=0.3, shape=(64, 128, 256)) == 0).sum(axis=axis)
    drawn = (64, 128, 256)[axis]
    assert counts.mean() == pytest.approx(0.3 * drawn, rel=0.01)
    assert counts.var() == pytest.approx(0.21 * drawn, rel=0.06)


@pytest.mark.parametrize("shift", [(0, 1), (1, 0), (1, 1), (0, 2), (16, 0), (0, 256)])
def test_neighbours_are_dropped_independently(shift):
    """And four corners of a rectangle, whose hashes share two rows and two columns."""
    signs = np.where(mask(rate=0.5, shape=(1024, 1024)) == 0, 1.0, -1.0)
    moved = np.roll(signs, shift, axis=(0, 1))
    corners = signs * moved * np.roll(signs, shift[0], axis=0) * np.roll(signs, shift[1], axis=1)
    assert abs((signs * moved).mean()) <= 4 / 1024
    if all(shift):
        assert abs(corners.mean()) <= 4 / 1024


def test_masks_of_sites_are_not_one_another_shifted():
    first, second = (np.where(mask(site=site, rate=0.5, shape=(1, 4096)) == 0, 1.0, -1.0)[0] for site in (0, 1))
    correlations = np.fft.ifft(np.fft.fft(first) * np.conj(np.fft.fft(second))).real / 4096
    assert np.abs(correlations).max() <= 6 / 64  # 6 standard deviations, over 4096 shifts


def test_a_block_has_its_part_of_the_whole_mask():
    whole = Dropout(0.1, SEED, site=0).mask((2, 3, 8, 9))
    part = whole.apply(tf.ones((2, 3, 4, 2)), start=(3, 5))
    np.testing.assert_array_equal(part, mask(shape=(2, 3, 8, 9)).astype("float32")[:, :, 3:7, 5:7])


@needs_host_compiler
def test_compiled_it_is_the_same():
    compiled = graph_function(lambda x, seed: Dropout(0.1, seed, site=0)(x))(tf.ones((64, 64)), tf.constant(SEED))
    np.testing.assert_array_equal(compiled, mask())


@needs_host_compiler
def test_a_compiled_program_does_not_hold_the_places_of_all_elements():
    """TensorFlow folds sums of constants: those of rows and columns once made a program of 43 MB for two layers."""
    arguments = tf.TensorSpec((64, 64, 64), tf.float32), tf.TensorSpec((2,), tf.int32)
    assert len(export(lambda x, seed: Dropout(0.1, seed, site=0)(x), *arguments)) < 64**2 * 4


def test_a_graph_holds_no_constant_as_large_as_what_it_masks():
    """TensorFlow makes those while it compiles, and keeps them: zeros took 5 GB for a model of GPT-2's size."""

    def is_constant(operation):
        return operation.type != "Placeholder" and all(is_constant(value.op) for value in operation.inputs)

    function = graph_function(lambda x, seed: Dropout(0.1, seed, site=0)(x))
    traced = function.get_concrete_function(tf.TensorSpec((64, 64, 64)), tf.TensorSpec((2,), tf.int32))
    constants = [output for one in traced.graph.get_operations() if is_constant(one) for output in one.outputs]
    assert constants
    assert max(constant.shape.num_elements() for constant in constants) < 64**2


def test_the_batch_may_be_unknown_to_the_graph():
    function = tf.function(Dropout(0.1, tf.constant(SEED), site=0), autograph=False)
    traced = function.get_concrete_function(tf.TensorSpec((None, 64)))
    np.testing.assert_array_equal(traced(tf.ones((64, 64))), mask())


def test_dropout_without_a_seed_or_a_rate_changes_nothing():
    x = tf.constant([[1.0, 2.0]])
    assert Dropout(0.5, None, site=0)(x) is x
    assert Dropout(0.0, SEED, site=0)(x) is x
