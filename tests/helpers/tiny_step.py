"""Optimizer steps of tiny models, on one device and on two, for the tests of what a step computes."""

import functools

import numpy as np
import tensorflow as tf
from shared_steps import shared_step

from algpt2.config.training import TrainConfig
from algpt2.training.spikes import SkipState

BATCH_SIZE = 8
STEPS = 5
ONE = "one device"
TWO = "two devices"


@functools.cache
def strategy_of(devices):
    """One strategy for all tests: a second one would reuse the first one's keys of collectives, and clash."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]) if devices == TWO else tf.distribute.get_strategy()


def random_rows(seed=0):
    return np.random.default_rng(seed).integers(64, size=(BATCH_SIZE * STEPS, 17)).astype("int32")


def step_of(devices, model_config, **config):
    """Returns the step, with its first values; all tests share it, so whoever takes it next sets it back to them."""
    config = TrainConfig(**{"total_steps": STEPS, "batch_size": BATCH_SIZE, "learning_rate": 1e-2, **config})
    return shared_step(strategy_of(devices), model_config, config)


def run_steps(devices, model_config, rows, n_steps=STEPS, **config):
    """Returns the step, see `step_of`, after it has run, its results, and the state for the next call."""
    step = step_of(devices, model_config, **config)
    rows_of_all_replicas = batches(step.strategy, rows, step.config.batch_size)
    return step, *step(rows_of_all_replicas, 0, n_steps, SkipState.before_first_step(step.config))


def batches(strategy, rows, batch_size=BATCH_SIZE):
    """Returns an iterator of global batches."""
    replica_rows = batch_size // strategy.num_replicas_in_sync
    dataset = strategy.distribute_datasets_from_function(
        lambda context: tf.data.Dataset.from_tensor_slices(rows).batch(replica_rows, drop_remainder=True)
    )
    return iter(dataset)


def train(devices, model_config, n_steps=STEPS, **config):
    """Returns all parameters after the steps as one vector, the losses and the gradient norms."""
    step, results, _ = run_steps(devices, model_config, random_rows(), n_steps, **config)
    return as_vector(step.parameters), results.losses, results.norms


def as_vector(variables):
    return np.concatenate([variable.numpy().ravel() for variable in variables]).astype(np.float64)


def require_equal(results, expected):
    for result, other in zip(results, expected, strict=True):
        assert np.linalg.norm(result - other) / np.linalg.norm(other) <= 1e-5
