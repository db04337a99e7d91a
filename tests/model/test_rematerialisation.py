"""Blocks computed again in the backward pass, against blocks that keep all."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from marks import needs_host_compiler
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG
from tiny_step import ONE, require_equal, train

from algpt2.config.training import TrainConfig
from algpt2.model.rematerialisation import rematerialised, rematerialised_loop
from algpt2.preflight.step_export import export_training_step

N_APPLICATIONS = 3


@pytest.fixture
def weights(rng):
    return tf.Variable(rng.normal(size=(4, 4)), dtype=tf.float32)


def plain_loop(apply, x, n_applications):
    for application in range(n_applications):
        x = apply(x, application)
    return x


def rematerialised_one_by_one(apply, x, n_applications):
    return plain_loop(lambda x, i: rematerialised(apply, x, i), x, n_applications)


def output_and_gradients(repeat, x, weights):
    """The output, and the gradients of a sum in which every element has a weight of its own."""

    def apply(x, application):
        return tf.tanh(x @ weights) + tf.cast(application, tf.float32) * x * x / 10

    with tf.GradientTape() as tape:
        tape.watch(x)
        output = repeat(apply, x, N_APPLICATIONS)
        total = tf.reduce_sum(output * tf.reshape(tf.range(8.0), (2, 4)))
    return output, *tape.gradient(total, [x, weights])


@pytest.mark.parametrize("repeat", [rematerialised_one_by_one, rematerialised_loop])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=needs_host_compiler)])
def test_values_and_gradients_are_those_of_plain_applications(rng, weights, repeat, compiled):
    x = tf.constant(rng.normal(size=(2, 4)), tf.float32)
    function = tf.function(lambda x: output_and_gradients(repeat, x, weights), jit_compile=compiled, autograph=False)
    for result, other in zip(function(x), output_and_gradients(plain_loop, x, weights), strict=True):
        np.testing.assert_allclose(result, other, rtol=1e-5, atol=1e-5)


@needs_host_compiler
@pytest.mark.parametrize(
    ("repeat", "n_computed"), [(plain_loop, N_APPLICATIONS), (rematerialised_one_by_one, 2 * N_APPLICATIONS - 1)]
)
def test_what_is_computed_again_is_not_found_to_be_computed_before(weights, repeat, n_computed):
    """The last one is: the gradient from above is a constant there."""

    @tf.function(jit_compile=True, autograph=False)
    def step(x):
        return output_and_gradients(repeat, x, weights)

    assert step.experimental_get_compiler_ir(tf.zeros((2, 4)))(stage="optimized_hlo").count(" tanh(") == n_computed


@pytest.mark.parametrize(("model_config", "accumulation_steps"), [(GPT2_CONFIG, 1), (ALGPT2_CONFIG, 2)])
def test_training_ends_with_the_same_parameters(model_config, accumulation_steps):
    """With dropout: catches a mask that is drawn anew, or that is the same in every application.

    `test_positions.py` has rematerialised blocks on two replicas.
    """
    model_config = dataclasses.replace(model_config, dropout=0.2)
    options = {"accumulation_steps": accumulation_steps, "jit_compile": False}
    require_equal(train(ONE, model_config, remat="block", **options), train(ONE, model_config, remat="none", **options))


@needs_host_compiler
def test_the_program_of_shared_blocks_does_not_grow_with_their_applications():
    sizes = {}
    for remat, n_layer in (("block", 1), ("block", 3), ("none", 3)):
        config = TrainConfig(total_steps=1, batch_size=2, remat=remat, jit_compile=False)
        model = dataclasses.replace(ALGPT2_CONFIG, n_layer=n_layer, dropout=0.1)
        sizes[remat, n_layer] = len(export_training_step(model, config))
    assert sizes["block", 3] == pytest.approx(sizes["block", 1], rel=0.02)
    assert sizes["none", 3] > 1.2 * sizes["block", 3], "a program that grows would be larger"
