"""Muon against singular value decompositions and Adam's formula in NumPy float64."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.training import TrainConfig
from algpt2.devices import wheels
from algpt2.model.gpt import GPT
from algpt2.model.sizes import matrix_count
from algpt2.optim.create import create_optimizer
from algpt2.optim.muon import Muon, merge_columns, orthogonalised, split_columns
from algpt2.training.spikes import SkipState
from algpt2.training.step import TrainStep, create_model

BLOCK_KERNELS = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
SHAPES, MATRICES = [(24, 72), (40, 16), (16, 40), (24, 8), (9,)], [3, 1, 1, 0, 0]
LEARNING_RATE, WEIGHT_DECAY, MOMENTUM, BETA_1, BETA_2, EPSILON = 1e-2, 0.1, 0.9, 0.8, 0.95, 1e-8


def singular_values(x):
    return np.linalg.svd(np.asarray(x, np.float64), compute_uv=False)


def with_spectrum(rng, n, values):
    q, r = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    return q, r, (q * values) @ r.T


def orthogonalised_by_svd(x):
    """What five iterations come to: the polynomial on each singular value."""
    u, values, v = np.linalg.svd(x, full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return (u * values) @ v


@pytest.mark.parametrize("shape", [(32, 128), (128, 32), (4, 24, 96), (3, 96, 24), (1, 200)])
def test_random_matrices_come_out_with_singular_values_about_1(shape, rng):
    for scale in (1e-3, 1.0, 1e3):
        found = singular_values(orthogonalised(keras.ops.array(scale * rng.normal(size=shape), "float32")))
        assert found.min() >= 0.6
        assert found.max() <= 1.3


def test_only_the_singular_values_change_not_the_vectors(rng):
    q, r, x = with_spectrum(rng, 32, np.geomspace(0.05, 1, 32))
    turned_back = q.T @ np.asarray(orthogonalised(keras.ops.array(x, "float32")), np.float64) @ r
    assert np.abs(turned_back - np.diag(np.diag(turned_back))).max() < 1e-4
    assert 0.6 <= np.diag(turned_back).min() <= np.diag(turned_back).max() <= 1.3


def test_matrices_side_by_side_are_blocks_of_columns(rng):
    x = rng.normal(size=(4, 15)).astype("float32")
    separate = np.asarray(split_columns(keras.ops.array(x), 3))
    np.testing.assert_array_equal(separate, [x[:, :5], x[:, 5:10], x[:, 10:]])
    np.testing.assert_array_equal(merge_columns(keras.ops.array(separate)), x)


class NumpyMuon:
    """One variable's update, written from the formulas."""

    def __init__(self, parameter, n_matrices):
        self.parameter, self.n_matrices, self.t = parameter.astype(np.float64), n_matrices, 0
        self.first, self.second = np.zeros_like(self.parameter), np.zeros_like(self.parameter)

    def step(self, gradient):
        self.t += 1
        self.parameter -= LEARNING_RATE * WEIGHT_DECAY * self.parameter
        self.parameter -= LEARNING_RATE * (self._muon(gradient) if self.n_matrices else self._adam(gradient))

    def _muon(self, gradient):
        self.first = MOMENTUM * self.first + gradient  # the scale of the momentum does not matter
        parts = np.split(gradient + MOMENTUM * self.first, self.n_matrices, axis=1)
        return np.hstack([0.2 * np.sqrt(max(part.shape)) * orthogonalised_by_svd(part) for part in parts])

    def _adam(self, gradient):
        self.first = BETA_1 * self.first + (1 - BETA_1) * gradient
        self.second = BETA_2 * self.second + (1 - BETA_2) * gradient**2
        mean_square = self.second / (1 - BETA_2**self.t)
        return self.first / (1 - BETA_1**self.t) / (np.sqrt(mean_square) + EPSILON)


def built_muon(parameters):
    variables = [keras.Variable(parameter) for parameter in parameters]
    optimizer = Muon(
        LEARNING_RATE, MATRICES, MOMENTUM, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON, weight_decay=WEIGHT_DECAY
    )
    optimizer.build(variables)
    return optimizer, variables


@pytest.mark.parametrize("jit_compile", [False, True])
def test_steps_agree_with_numpy(rng, jit_compile):
    if jit_compile and not wheels.has_host_compiler():
        pytest.skip("this wheel has no XLA backend for CPUs")
    parameters = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    expected = [NumpyMuon(parameter, n) for parameter, n in zip(parameters, MATRICES, strict=True)]
    optimizer, variables = built_muon(parameters)
    apply = tf.function(lambda gradients: optimizer.apply(gradients, variables), jit_compile=jit_compile)
    for step in range(8):
        gradients = [(1 + step) * rng.normal(size=shape).astype("float32") for shape in SHAPES]
        apply([tf.constant(gradient) for gradient in gradients])
        for reference, gradient in zip(expected, gradients, strict=True):
            reference.step(gradient.astype(np.float64))
    for variable, reference, start in zip(variables, expected, parameters, strict=True):
        moved = np.abs(reference.parameter - start).max()
        assert np.abs(variable.numpy() - reference.parameter).max() <= 2e-4 * moved


def test_query_key_and_value_take_steps_of_one_size_however_much_their_gradients_differ(rng):
    """Orthogonalised as one matrix, the value's gradient would take nearly all of the step."""
    parameters = [np.zeros(shape, "float32") for shape in SHAPES]
    optimizer, variables = built_muon(parameters)
    gradients = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    gradients[0] *= np.repeat([1e-3, 1e-2, 1.0], 24).astype("float32")
    optimizer.apply([keras.ops.array(gradient) for gradient in gradients], variables)
    for part in np.split(variables[0].numpy(), 3, axis=1):
        assert 0.6 * 0.2 <= np.sqrt(np.mean((part / LEARNING_RATE) ** 2)) <= 1.3 * 0.2


def test_a_gradient_of_zeros_moves_nothing():
    optimizer, variables = built_muon([np.zeros(shape, "float32") for shape in SHAPES])
    optimizer.apply([keras.ops.zeros(shape) for shape in SHAPES], variables)
    assert all((variable.numpy() == 0).all() for variable in variables)


@pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])
def test_the_kernels_inside_blocks_are_muons_and_all_else_is_adamws(config):
    named = GPT(config).named_parameters()
    found = {name: n for name, p in named.items() if (n := matrix_count(name, tuple(p.shape)))}
    blocks = range(config.n_block)
    assert set(found) == {f"h.{block}.{kernel}" for block in blocks for kernel in BLOCK_KERNELS}
    assert {name for name, n in found.items() if n == 3} == {f"h.{block}.attn.c_attn.weight" for block in blocks}


def test_a_checkpoint_can_hold_all_of_muons_state():
    model = GPT(ALGPT2_CONFIG)
    optimizer = create_optimizer(TrainConfig(total_steps=1, optimizer="muon"), model)
    named = model.named_parameters()
    state = optimizer.named_state(named)
    for name in named:
        is_kernel = name.startswith("h.") and name.endswith(BLOCK_KERNELS)
        slots = ["momentum"] if is_kernel else ["first_moment", "second_moment"]
        assert [slot for slot in optimizer.slots if f"{slot}/{name}" in state] == slots
    assert set(map(id, optimizer.variables)) - set(map(id, state.values())) == set(), "state that no checkpoint holds"
    assert optimizer.state_bytes() == 4 * sum(int(np.prod(v.shape)) for v in state.values()) - 4


def test_the_options_reach_the_optimizer():
    config = TrainConfig(total_steps=1, optimizer="muon", muon_momentum=0.8, beta_2=0.9, epsilon=1e-6, weight_decay=0.3)
    optimizer = create_optimizer(config, GPT(ALGPT2_CONFIG))
    assert (optimizer.momentum, optimizer.beta_1, optimizer.beta_2) == (0.8, 0.9, 0.9)
    assert (optimizer.epsilon, optimizer.weight_decay) == (1e-6, 0.3)


def test_muon_comes_back_from_its_keras_config():
    optimizer, _ = built_muon([np.zeros(shape, "float32") for shape in SHAPES])
    again = Muon.from_config(optimizer.get_config())
    assert (again.matrices, again.momentum, again.beta_1, again.weight_decay) == (MATRICES, MOMENTUM, 0.8, WEIGHT_DECAY)


def test_muon_learns_a_batch_by_heart():
    steps = 40
    config = TrainConfig(total_steps=steps, batch_size=4, optimizer="muon", learning_rate=2e-2, jit_compile=False)
    model = create_model(dataclasses.replace(GPT2_CONFIG, n_layer=1), config)
    rows = np.random.default_rng(0).integers(64, size=(4, 17)).astype("int32")
    step = TrainStep(tf.distribute.get_strategy(), model, config)
    batches = iter(tf.data.Dataset.from_tensors(rows).repeat(steps))
    results, _ = step(batches, 0, steps, SkipState.before_first_step(config))
    assert results.losses[0] == pytest.approx(np.log(64), abs=0.1)
    assert results.losses[-1] < 1.0
