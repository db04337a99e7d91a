import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from conftest import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2 import environment
from algpt2.errors import UserError
from algpt2.losses import inputs_and_targets, token_nats
from algpt2.model import GPT
from algpt2.train_config import TrainConfig
from algpt2.train_step import TrainStep, create_model, dropout_seed

BATCH_SIZE = 8
STEPS = 5
ONE = "one device"
TWO = "two devices"


@functools.cache
def strategy_of(devices):
    """One strategy for all tests: a second one would reuse the first one's keys of collectives, and clash."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if devices == TWO else tf.distribute.get_strategy()


def train(devices, model_config, n_steps=STEPS, **config):
    """Returns all parameters after the steps as one vector, the losses and the gradient norms."""
    strategy = strategy_of(devices)
    config = TrainConfig(total_steps=STEPS, batch_size=BATCH_SIZE, learning_rate=1e-2, **config)
    with strategy.scope():
        model = create_model(model_config, config)
    step = TrainStep(strategy, model, config)
    rows = np.random.default_rng(0).integers(64, size=(BATCH_SIZE * STEPS, 17)).astype("int32")
    replica_rows = BATCH_SIZE // strategy.num_replicas_in_sync
    dataset = strategy.distribute_datasets_from_function(
        lambda context: tf.data.Dataset.from_tensor_slices(rows).batch(replica_rows, drop_remainder=True)
    )
    losses, norms = step(iter(dataset), 0, n_steps)
    return np.concatenate([p.numpy().ravel() for p in step.parameters]).astype(np.float64), losses, norms


def require_equal(results, expected):
    for result, other in zip(results, expected, strict=True):
        assert np.linalg.norm(result - other) / np.linalg.norm(other) <= 1e-5


@pytest.mark.parametrize(
    ("model_config", "optimizer"),
    [(GPT2_CONFIG, "adamw"), (ALGPT2_CONFIG, "adafactor"), (GPT2_CONFIG, "muon"), (ALGPT2_CONFIG, "muon")],
)
def test_replicas_and_accumulation_give_the_same_parameters_as_one_large_batch(model_config, optimizer):
    """Catches: a clip before the all-reduce, a double reduction, a mean of means, a lost micro-batch."""
    config = {"optimizer": optimizer, "clip_norm": 0.05, "min_dim_size_to_factor": 16, "jit_compile": False}
    expected = train(ONE, model_config, **config)
    assert (expected[2] > 0.05).all(), "the clip must be active"
    for devices, accumulation_steps in ((ONE, 4), (TWO, 1), (TWO, 2)):
        require_equal(train(devices, model_config, accumulation_steps=accumulation_steps, **config), expected)


@pytest.mark.skipif(not environment.has_host_compiler(), reason="this wheel has no XLA backend for CPUs")
def test_compiled_steps_on_two_replicas_with_accumulation_agree_with_plain_ones_on_one():
    plain = train(ONE, ALGPT2_CONFIG, jit_compile=False)
    require_equal(train(ONE, ALGPT2_CONFIG), plain)
    require_equal(train(TWO, ALGPT2_CONFIG, accumulation_steps=2), plain)


def test_the_clip_changes_the_result():
    """Without it the tests above could not see a wrong clip."""
    clipped, *_ = train(ONE, GPT2_CONFIG, clip_norm=0.05, jit_compile=False)
    free, *_ = train(ONE, GPT2_CONFIG, clip_norm=0.0, jit_compile=False)
    assert np.linalg.norm(clipped - free) / np.linalg.norm(free) > 1e-3


@pytest.mark.parametrize(("devices", "jit_compile"), [(ONE, True), (TWO, False)])
def test_training_repeats_bit_for_bit_with_dropout(devices, jit_compile):
    config = dataclasses.replace(ALGPT2_CONFIG, dropout=0.2)
    first, *_ = train(devices, config, accumulation_steps=2, jit_compile=jit_compile)
    again, *_ = train(devices, config, accumulation_steps=2, jit_compile=jit_compile)
    np.testing.assert_array_equal(first, again)


def test_replicas_and_micro_batches_have_their_own_masks():
    """Equal rows everywhere: with one mask for all, two replicas would train exactly as one does."""
    config = dataclasses.replace(GPT2_CONFIG, dropout=0.2)
    results = [
        train(devices, config, accumulation_steps=accumulation_steps, n_steps=1, jit_compile=False)[1][0]
        for devices, accumulation_steps in ((ONE, 1), (ONE, 2), (TWO, 1))
    ]
    assert len(set(results)) == 3


def test_the_dropout_seed_differs_in_every_number_it_is_made_of():
    numbers = [
        (seed, step, micro, replica) for seed in (0, 1) for step in (0, 1) for micro in (0, 1) for replica in (0, 1)
    ]
    seeds = {tuple(dropout_seed(n[0], *map(tf.constant, n[1:])).numpy()) for n in numbers}
    assert len(seeds) == len(numbers)
    assert np.array_equal(dropout_seed(1, *map(tf.constant, (2, 3, 4))), dropout_seed(1, *map(tf.constant, (2, 3, 4))))


def test_the_loss_is_the_mean_over_the_global_batch_before_the_update():
    _, losses, _ = train(TWO, GPT2_CONFIG, accumulation_steps=2, jit_compile=False)
    rows = np.random.default_rng(0).integers(64, size=(BATCH_SIZE * STEPS, 17)).astype("int32")[:BATCH_SIZE]
    inputs, targets = inputs_and_targets(rows)
    assert losses[0] == pytest.approx(float(np.mean(token_nats(GPT(GPT2_CONFIG)(inputs), targets))), rel=1e-5)


def test_bfloat16_compute_keeps_float32_parameters_and_about_the_same_loss():
    _, losses, _ = train(ONE, ALGPT2_CONFIG, jit_compile=False)
    parameters, other_losses, _ = train(ONE, ALGPT2_CONFIG, compute_dtype="bfloat16", jit_compile=False)
    np.testing.assert_allclose(other_losses, losses, rtol=0.02)
    assert (other_losses != losses).any(), "nothing was computed in bfloat16"
    assert np.isfinite(parameters).all()


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="multiple of replicas x accumulation_steps = 2 x 3, received 8: 12 would do"):
        train(TWO, GPT2_CONFIG, accumulation_steps=3)
