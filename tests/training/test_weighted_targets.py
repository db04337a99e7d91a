"""Targets with weights: the loss and its gradient are the weighted mean over the global batch, however it is cut."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG
from tiny_step import BATCH_SIZE, ONE, STEPS, TWO, as_vector, batches, random_rows, require_equal, step_of

from algpt2.model.losses import inputs_and_targets, token_nats
from algpt2.training.spikes import SkipState

SHORT_REPLIES = 3


def weighted_rows():
    """Returns rows, and weights whose mean over each global batch is 1; some rows have many targets, others few."""
    rows, rng = random_rows(), np.random.default_rng(5)
    chances = np.where(np.arange(len(rows)) % BATCH_SIZE < SHORT_REPLIES, 0.1, 0.9)[:, None]
    weights = (rng.random((len(rows), 16)) < chances).astype("float32")
    of_batches = weights.reshape(STEPS, -1)
    of_batches /= of_batches.mean(axis=1, keepdims=True)
    return rows, weights


def train_weighted(devices, config, rows, n_steps=STEPS, **options):
    """Returns all parameters after the steps as one vector, the losses and the gradient norms."""
    step = step_of(devices, config, jit_compile=False, **options)
    results, _ = step(batches(step.strategy, rows), 0, n_steps, SkipState.before_first_step(step.config))
    return as_vector(step.parameters), results.losses, results.norms


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_two_devices_and_micro_batches_make_the_parameters_of_one(accumulation_steps):
    """Catches: a mean over each replica's own targets, by which those of rows with few would count for more."""
    rows = weighted_rows()
    expected = train_weighted(ONE, ALGPT2_CONFIG, rows)
    require_equal(train_weighted(TWO, ALGPT2_CONFIG, rows, accumulation_steps=accumulation_steps), expected)


def test_loss_and_gradient_are_those_of_the_weighted_targets_alone():
    """Catches: targets of weight 0 that count, in the loss or in the gradient, and a mean over all targets."""
    rows, weights = weighted_rows()
    step = step_of(ONE, GPT2_CONFIG, jit_compile=False)
    inputs, targets = inputs_and_targets(tf.constant(rows[:BATCH_SIZE]))
    variables = [parameter.value for parameter in step.parameters]
    with tf.GradientTape() as tape:
        nats = token_nats(step.model(inputs), targets)
        loss = tf.reduce_mean(nats[weights[:BATCH_SIZE] > 0])
    norm = tf.linalg.global_norm([tf.convert_to_tensor(one) for one in tape.gradient(loss, variables)])
    _, losses, norms = train_weighted(ONE, GPT2_CONFIG, (rows, weights), n_steps=1)
    np.testing.assert_allclose([losses[0], norms[0]], [loss, norm], rtol=1e-5)


def test_equal_weights_train_as_no_weights_do():
    rows = random_rows()
    expected = train_weighted(ONE, GPT2_CONFIG, rows)
    require_equal(train_weighted(ONE, GPT2_CONFIG, (rows, np.ones((len(rows), 16), "float32"))), expected)


def test_weights_stay_with_their_targets_while_sequences_are_short():
    rows, weights = weighted_rows()
    config = dataclasses.replace(GPT2_CONFIG, position_encoding="alibi")
    short = {"initial_seq_len": 8, "seq_len_warmup_steps": STEPS + 1, "total_steps": STEPS + 1}
    pieces = rows[:, :8], rows[:, 8:16]
    _, losses, _ = train_weighted(ONE, config, (rows, weights), n_steps=1, **short)
    step = step_of(ONE, config, jit_compile=False, **short)
    inputs = np.concatenate([piece[:BATCH_SIZE] for piece in pieces])
    targets = np.concatenate([rows[:BATCH_SIZE, 1:9], rows[:BATCH_SIZE, 9:17]])
    mine = np.concatenate([weights[:BATCH_SIZE, :8], weights[:BATCH_SIZE, 8:]])
    nats = token_nats(step.model(inputs), targets).numpy()
    assert losses[0] == pytest.approx(nats[mine > 0].mean(), rel=1e-5)
