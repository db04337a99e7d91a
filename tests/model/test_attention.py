"""Blocked attention against attention written out plainly: values and gradients."""

import math

import numpy as np
import pytest
import tensorflow as tf
from marks import needs_host_compiler

from algpt2.devices.compilation import graph_function
from algpt2.model import attention
from algpt2.model.attention import causal_attention, causal_mask
from algpt2.model.dropout import NO_DROPOUT, Dropout

SEED = np.array([3, 4], "int32")


def plain_attention(query, key, value, dropout=NO_DROPOUT):
    """All scores at once; dropout with one mask."""
    length = query.shape[2]
    scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(query.shape[3])
    weights = tf.nn.softmax(tf.where(causal_mask(length, length, 0), scores, -math.inf))
    return tf.matmul(dropout(weights), value)


def output_and_gradients(attend, inputs, dropout=NO_DROPOUT):
    """The output, and the gradients of a sum in which every element has a weight of its own."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = attend(*inputs, dropout)
        weights = np.random.default_rng(1).normal(size=output.shape).astype("float32")
        total = tf.reduce_sum(tf.cast(output, tf.float32) * weights)
    return output, *tape.gradient(total, inputs)


def random_inputs(rng, length, dtype="float32"):
    return [tf.constant(rng.normal(scale=2, size=(2, 3, length, 4)), dtype) for _ in range(3)]


@pytest.fixture(params=[1, 7, 8, 9, 24, 29])
def length(request, monkeypatch):
    """One position, less than a block of queries, whole blocks, and a rest."""
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 8)
    return request.param


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_values_and_gradients_are_those_of_plain_attention(rng, length, rate):
    inputs = random_inputs(rng, length)
    dropout = Dropout(rate, SEED, site=7)
    expected = output_and_gradients(plain_attention, inputs, dropout)
    for result, other in zip(output_and_gradients(causal_attention, inputs, dropout), expected, strict=True):
        assert np.linalg.norm(result - other) <= 1e-6 * np.linalg.norm(other) + 1e-5


@needs_host_compiler
def test_compiled_they_are_the_same(rng, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 8)
    inputs = random_inputs(rng, 29)
    expected = output_and_gradients(plain_attention, inputs)
    compiled = graph_function(lambda *inputs: output_and_gradients(causal_attention, list(inputs)))(*inputs)
    for result, other in zip(compiled, expected, strict=True):
        assert np.linalg.norm(result - other) <= 1e-5 * np.linalg.norm(other)


def test_scores_far_apart_neither_overflow_nor_vanish(rng):
    inputs = [100 * random_inputs(rng, 12)[0], *random_inputs(rng, 12)[1:]]
    expected = output_and_gradients(plain_attention, inputs)
    for result, other in zip(output_and_gradients(causal_attention, inputs), expected, strict=True):
        assert np.isfinite(result.numpy()).all()
        assert np.linalg.norm(result - other) <= 1e-4 * np.linalg.norm(other)


def test_bfloat16_weights_are_normalised_in_float32(rng, monkeypatch):
    """Equal values under any weights that sum to 1 come back unchanged; a bfloat16 sum of 500 weights stops at 256."""
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 128)
    query, key, _ = random_inputs(rng, 500, "bfloat16")
    output = causal_attention(0 * query, key, tf.ones_like(key))
    assert output.dtype == tf.bfloat16
    assert np.abs(output.numpy().astype(np.float64) - 1).max() <= 2**-8


def test_a_query_sees_keys_up_to_its_own_position():
    expected = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    np.testing.assert_array_equal(np.array(causal_mask(2, 5, first_position=2)), np.array(expected, bool))
