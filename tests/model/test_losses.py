"""The shift into inputs and targets, and cross-entropy against NumPy float64."""

import numpy as np
import pytest
import tensorflow as tf

from algpt2.model import sizes
from algpt2.model.losses import (
    head_logits,
    head_nats,
    inputs_and_targets,
    mean_head_nats,
    scored_head_nats,
    token_chunks,
    token_nats,
)


def exact_nats(logits, targets):
    """-log softmax in float64, of the very values that the model computed."""
    logits = np.asarray(logits).astype(np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_probabilities, np.asarray(targets)[..., None], axis=-1)[..., 0]


@pytest.fixture
def targets(rng):
    return rng.integers(50, size=(3, 7)).astype("int32")


def test_each_target_is_the_token_after_its_input():
    inputs, targets = inputs_and_targets(np.array([[5, 6, 7, 8], [1, 2, 3, 4]]))
    assert inputs.tolist() == [[5, 6, 7], [1, 2, 3]]
    assert targets.tolist() == [[6, 7, 8], [2, 3, 4]]


def test_nats_are_float64s_negative_log_softmax(rng, targets):
    logits = rng.normal(scale=3, size=(3, 7, 50)).astype("float32")
    nats = token_nats(logits, targets)
    assert nats.dtype == tf.float32
    assert nats.shape == (3, 7)
    assert np.abs(nats.numpy() - exact_nats(logits, targets)).max() <= 5e-6


@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_large_logits_neither_overflow_nor_vanish(rng, targets, offset):
    """float32 has steps of 0.001 at 1e4, so that much is the rounding of the result."""
    logits = (offset + rng.normal(scale=3, size=(3, 7, 50))).astype("float32")
    assert np.abs(token_nats(logits, targets).numpy() - exact_nats(logits, targets)).max() <= 2e-3


def test_a_target_hopelessly_far_below_the_largest_logit_has_a_finite_loss():
    logits = np.array([[[1e4, 0.0, -1e4]]], "float32")
    assert token_nats(logits, np.int32([[2]])).numpy() == pytest.approx(2e4)
    assert token_nats(logits, np.int32([[0]])).numpy() == pytest.approx(0)


def test_bfloat16_logits_are_summed_in_float32(rng, targets):
    """A bfloat16 sum would be off by some hundredths: it once cost a run of 580M parameters."""
    logits = tf.cast(rng.normal(scale=3, size=(3, 7, 50)), tf.bfloat16)
    nats = token_nats(logits, targets)
    assert nats.dtype == tf.float32
    assert np.abs(nats.numpy() - exact_nats(logits.numpy(), targets)).max() <= 5e-6


def test_the_gradient_is_softmax_minus_one_hot(rng, targets):
    logits = tf.constant(rng.normal(scale=3, size=(3, 7, 50)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total = tf.reduce_sum(token_nats(logits, targets))
    exp = np.exp(logits.numpy().astype(np.float64))
    expected = exp / exp.sum(-1, keepdims=True) - np.eye(50)[targets]
    assert np.abs(tape.gradient(total, logits).numpy() - expected).max() <= 1e-5


@pytest.fixture(params=[(1, 5), (2, 8), (3, 11)])
def head_inputs(request, rng, monkeypatch):
    """Hidden states, table and targets of one chunk, of several whole ones, and of several with a rest."""
    monkeypatch.setattr(sizes, "LEAST_CHUNK_TOKENS", 4)
    monkeypatch.setattr(sizes, "MOST_CHUNKS", 4)
    batch, length = request.param
    hidden = tf.constant(rng.normal(size=(batch, length, 6)), tf.float32)
    table = tf.constant(rng.normal(size=(50, 6)), tf.float32)
    return hidden, table, rng.integers(50, size=(batch, length)).astype("int32")


def test_nats_in_chunks_are_those_of_whole_logits(head_inputs):
    hidden, table, targets = head_inputs
    nats = head_nats(*head_inputs)
    assert nats.shape == targets.shape
    np.testing.assert_allclose(nats, token_nats(head_logits(hidden, table), targets), rtol=1e-6, atol=1e-6)


def test_the_mean_in_chunks_and_its_gradients_are_those_of_whole_logits(head_inputs):
    """The loss is scaled afterwards, so the gradient that arrives from above is 3: catches one that is taken for 1."""
    hidden, table, targets = head_inputs
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([hidden, table])
        mean = 3 * mean_head_nats(hidden, table, targets, count=70)
        expected = 3 * tf.reduce_sum(token_nats(head_logits(hidden, table), targets)) / 70
    np.testing.assert_allclose(mean, expected, rtol=1e-6)
    for source in (hidden, table):
        gradient, other = (tape.gradient(loss, source) for loss in (mean, expected))
        assert np.linalg.norm(gradient - other) <= 1e-6 * np.linalg.norm(other)


def test_bfloat16_keeps_the_loss_and_its_gradients_though_all_logits_share_a_large_offset(rng):
    """Logits stored as they are, about -100 like those of GPT-2's published weights, would have steps of 0.5."""
    hidden, table = rng.normal(size=(2, 32, 8)), rng.normal(size=(50, 8))
    hidden[..., 0], table[:, 0] = 8, -12.5
    hidden, table = tf.cast(hidden, tf.bfloat16), tf.constant(table, tf.float32)
    targets = rng.integers(50, size=(2, 32)).astype("int32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([hidden, table])
        mean = mean_head_nats(hidden, table, targets, count=64)
        expected = tf.reduce_mean(token_nats(head_logits(hidden, table), targets))
    assert abs(mean - expected) <= 1e-3 * expected
    for source in (hidden, table):
        gradient, other = (tf.cast(tape.gradient(loss, source), tf.float32) for loss in (mean, expected))
        assert np.linalg.norm(gradient - other) <= 0.01 * np.linalg.norm(other)


def test_no_more_than_the_stated_chunks_are_made_of_any_number_of_tokens(monkeypatch):
    monkeypatch.setattr(sizes, "LEAST_CHUNK_TOKENS", 4)
    monkeypatch.setattr(sizes, "MOST_CHUNKS", 3)
    for length, chunk_sizes in ((3, [3]), (9, [4, 4, 1]), (16, [6, 6, 4])):
        chunks = token_chunks(tf.zeros((1, length, 2)), tf.zeros((1, length), tf.int32))
        assert [hidden.shape[0] for hidden, _ in chunks] == chunk_sizes


@pytest.mark.parametrize("n_scored", [0, 1, 5, 13, 21])
def test_scored_targets_have_the_nats_of_the_whole_head_and_others_none(rng, targets, monkeypatch, n_scored):
    """Chunks of 5 tokens: none, a part of one, one, three of which the last is not full, and all of the five."""
    monkeypatch.setattr(sizes, "LEAST_CHUNK_TOKENS", 5)
    monkeypatch.setattr(sizes, "MOST_CHUNKS", 5)
    hidden, table = rng.normal(size=(3, 7, 8)).astype("float32"), rng.normal(size=(50, 8)).astype("float32")
    scored = rng.permutation(np.arange(21) < n_scored).reshape(3, 7)
    logits = head_logits(hidden, table).numpy()
    targets = np.where(rng.random((3, 7)) < 0.5, logits.argmax(-1), targets).astype("int32")
    nats, is_likeliest = scored_head_nats(tf.constant(hidden), table, targets, scored.astype("float32"))
    expected = np.where(scored, exact_nats(logits, targets), 0)
    assert np.abs(nats.numpy() - expected).max() <= 5e-6
    assert (is_likeliest.numpy() == (scored & (logits.argmax(-1) == targets))).all()
