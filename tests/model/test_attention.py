"""Blocked attention against attention written out plainly: values and gradients."""

import math

import numpy as np
import pytest
import tensorflow as tf
from marks import needs_host_compiler

from algpt2.devices.compilation import graph_function
from algpt2.model import attention
from algpt2.model.attention import causal_attention
from algpt2.model.attention_bias import CAUSAL, AttentionBias, alibi_slopes, causal_mask
from algpt2.model.dropout import NO_DROPOUT, Dropout

SEED = np.array([3, 4], "int32")


def plain_attention(query, key, value, dropout=NO_DROPOUT, bias=CAUSAL):
    """All scores at once, as the papers have them; dropout with one mask."""
    length = query.shape[2]
    added = np.full((query.shape[0], 3, length, length), -np.inf, np.float32)
    for b, h, i, j in np.ndindex(*added.shape):
        if j <= i and (bias.documents is None or bias.documents[b, i] == bias.documents[b, j]):
            added[b, h, i, j] = 0 if bias.slopes is None else -bias.slopes[h] * (i - j)
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) / math.sqrt(query.shape[3]) + added)
    return tf.matmul(dropout(weights), value)


def output_and_gradients(attend, inputs, dropout=NO_DROPOUT, bias=CAUSAL):
    """The output, and the gradients of a sum in which every element has a weight of its own."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = attend(*inputs, dropout, bias)
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


SLOPES = np.array([0.5, 0.125, 2.0], np.float32)
# The second row's documents begin within a block, at its end and side by side, and one crosses two borders of blocks.
DOCUMENTS = np.stack([np.zeros(29), np.repeat(np.arange(6), [3, 4, 1, 1, 17, 3])]).astype("int32")
BIASES = {
    "alibi": AttentionBias(slopes=SLOPES),
    "documents": AttentionBias(documents=DOCUMENTS),
    "both": AttentionBias(SLOPES, DOCUMENTS),
}


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
def test_with_a_bias_they_are_those_of_plain_attention_with_it(rng, monkeypatch, bias):
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 8)
    inputs, dropout = random_inputs(rng, 29), Dropout(0.3, SEED, site=7)
    expected = output_and_gradients(plain_attention, inputs, dropout, bias)
    for result, other in zip(output_and_gradients(causal_attention, inputs, dropout, bias), expected, strict=True):
        assert np.linalg.norm(result - other) <= 1e-6 * np.linalg.norm(other) + 1e-5


def test_with_a_bias_a_graph_of_any_length_gives_the_values_of_plain_attention(rng):
    inputs = random_inputs(rng, 29)
    graph = tf.function(
        lambda *inputs: causal_attention(*inputs, bias=BIASES["both"]),
        input_signature=[tf.TensorSpec((2, 3, None, 4), tf.float32)] * 3,
        autograph=False,
    )
    np.testing.assert_allclose(graph(*inputs), plain_attention(*inputs, bias=BIASES["both"]), atol=1e-5)


def test_the_slopes_are_those_of_the_paper():
    twelve = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625, 0.70711, 0.35355, 0.17678, 0.08839]
    np.testing.assert_allclose(alibi_slopes(12), twelve, atol=5e-6)
    np.testing.assert_array_equal(alibi_slopes(12)[:8], twelve[:8])
    np.testing.assert_array_equal(alibi_slopes(16)[1::2], alibi_slopes(8))
    np.testing.assert_array_equal(alibi_slopes(1), [2**-8])


def test_a_bias_is_float32_beside_bfloat16_scores(rng):
    """Positions 256 to 511 apart are bfloat16 numbers 2 apart; the nearer of two such keys must weigh more."""
    query = tf.zeros((1, 1, 300, 4), tf.bfloat16)
    value = tf.cast(tf.range(300)[None, None, :, None] == 9, tf.bfloat16) * tf.ones((1, 1, 1, 4), tf.bfloat16)
    bias = AttentionBias(slopes=np.array([1 / 64], np.float32))
    output = causal_attention(query, query, value, bias=bias)[0, 0, 266:, 0]
    distances = np.arange(266, 300) - 9
    weights = np.exp(-distances / 64) / np.array([np.exp(-np.arange(i + 1) / 64).sum() for i in range(266, 300)])
    np.testing.assert_allclose(tf.cast(output, tf.float32), weights, rtol=2**-8)


@needs_host_compiler
def test_compiled_they_are_the_same(rng, monkeypatch):
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 8)
    inputs = random_inputs(rng, 29)
    expected = output_and_gradients(plain_attention, inputs, bias=BIASES["both"])
    compiled = graph_function(
        lambda *inputs: output_and_gradients(causal_attention, list(inputs), bias=BIASES["both"])
    )(*inputs)
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
