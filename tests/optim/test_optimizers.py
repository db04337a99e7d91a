import keras
import numpy as np
import optax
import pytest
from tiny_models import GPT2_CONFIG

from algpt2.config.model import GPTConfig
from algpt2.config.training import OPTIMIZERS, TrainConfig
from algpt2.model.gpt import GPT
from algpt2.optim.adafactor import Adafactor
from algpt2.optim.adamw import AdamW
from algpt2.optim.base import clip_by_global_norm, is_decayed
from algpt2.optim.create import create_optimizer

SHAPES = [(16, 24), (7,), (256, 128), (130, 5)]
STEPS = 20


def largest_difference(optimizer, transformation, rng):
    """Both take the same random gradients for 20 steps; returns the largest relative difference of a parameter."""
    expected = [rng.normal(size=shape).astype("float32") for shape in SHAPES]
    variables = [keras.Variable(parameter) for parameter in expected]
    start = [v.numpy().copy() for v in variables]
    optimizer.build(variables)
    state = transformation.init(expected)
    for step in range(STEPS):
        gradients = [rng.normal(size=shape).astype("float32") * (1 + step) for shape in SHAPES]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        updates, state = transformation.update(gradients, state, expected)
        expected = [np.asarray(p) for p in optax.apply_updates(expected, updates)]
    moved = [np.abs(e - s).max() for e, s in zip(expected, start, strict=True)]
    return max(np.abs(v.numpy() - e).max() / m for v, e, m in zip(variables, expected, moved, strict=True))


@pytest.mark.parametrize("beta_1", [None, 0.9])
@pytest.mark.parametrize("parameter_scale", [True, False])
@pytest.mark.parametrize("min_dim_size_to_factor", [128, 4, 10**9])
def test_adafactor_agrees_with_optax(beta_1, parameter_scale, min_dim_size_to_factor, rng):
    ours = Adafactor(
        1e-2,
        beta_1=beta_1,
        multiply_by_parameter_scale=parameter_scale,
        min_dim_size_to_factor=min_dim_size_to_factor,
    )
    theirs = optax.adafactor(
        1e-2,
        momentum=beta_1,
        multiply_by_parameter_scale=parameter_scale,
        min_dim_size_to_factor=min_dim_size_to_factor,
    )
    assert largest_difference(ours, theirs, rng) < 2e-5


def test_adamw_agrees_with_optax(rng):
    ours = AdamW(1e-2, beta_1=0.8, beta_2=0.95, weight_decay=0.1)
    assert largest_difference(ours, optax.adamw(1e-2, b1=0.8, b2=0.95, weight_decay=0.1), rng) < 2e-5


def test_adafactors_decay_grows_with_the_step(rng):
    """The original's stayed at 0.0, so it had no memory: the mean of two squares is 1 - 2^-0.8 of the first."""
    optimizer = Adafactor(1e-2)
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer.build([variable])
    for gradient in (2.0, 0.0):
        optimizer.apply([keras.ops.full((3,), gradient)], [variable])
    np.testing.assert_allclose(optimizer.slots["second_moment"][0].numpy(), 4 * (1 - 2**-0.8), rtol=1e-6)


def test_adafactors_relative_step_bounds_the_learning_rate(rng):
    """Without parameter scale, the first unclipped update of a vector has RMS exactly the learning rate."""
    optimizer = Adafactor(0.6, multiply_by_parameter_scale=False, relative_step=True)
    variable = keras.Variable(np.zeros(64, "float32"))
    optimizer.build([variable])
    moves = []
    for _ in range(4):
        before = variable.numpy().copy()
        optimizer.apply([keras.ops.ones(64)], [variable])
        moves.append(np.abs(variable.numpy() - before).max())
    np.testing.assert_allclose(moves, [0.6, 0.6, 3**-0.5, 0.5], rtol=1e-5)


def test_adafactors_state_for_algpt2_is_smaller_than_the_model(capsys):
    """And than a hundredth of AdamW's; printed, because people ask."""
    config = GPTConfig.from_preset("algpt2")
    shapes = [p.shape for p in GPT(config).trainable_variables]
    sizes = {}
    for optimizer in (Adafactor(1e-3), AdamW(1e-3)):
        optimizer.build([keras.Variable(np.zeros(shape, "float32")) for shape in shapes])
        sizes[optimizer.name] = optimizer.state_bytes()
    model_bytes = 4 * config.parameter_count()
    with capsys.disabled():
        print(f"\nalgpt2: model {model_bytes:,} bytes, optimizer state {sizes}")
    assert sizes["adamw"] == 2 * model_bytes
    assert sizes["adafactor"] < model_bytes / 50


def test_a_matrix_is_factored_only_if_both_sides_are_large_enough():
    optimizer = Adafactor(1e-3, min_dim_size_to_factor=128)
    shapes = [(128, 128), (127, 4096), (4096, 127), (4096,)]
    assert [optimizer.is_factored(shape) for shape in shapes] == [True, False, False, False]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weight_decay_acts_on_matrices_but_not_on_the_position_table(optimizer):
    model = GPT(GPT2_CONFIG)
    built = create_optimizer(
        TrainConfig(total_steps=1, optimizer=optimizer, weight_decay=0.5, learning_rate=0.1), model
    )
    named = model.named_parameters()
    for parameter in named.values():
        parameter.assign(keras.ops.ones(parameter.shape))
    built.apply([keras.ops.zeros(parameter.shape) for parameter in named.values()], list(named.values()))
    # The last of one step has a tenth of the peak learning rate.
    decayed = {name for name, p in named.items() if np.allclose(p.numpy(), 1 - 0.5 * 0.01, atol=1e-6)}
    unchanged = {name for name, p in named.items() if (p.numpy() == 1).all()}
    assert decayed == {name for name, p in named.items() if len(p.shape) == 2} - {"wpe.weight"}
    assert decayed | unchanged == set(named)


def test_decay_spares_vectors_and_positions():
    assert is_decayed("wte.weight", (64, 32))
    assert not is_decayed("wpe.weight", (16, 32))
    assert not is_decayed("ln_f.weight", (32,))


def test_clipping_scales_all_gradients_by_one_factor():
    gradients = [keras.ops.array([3.0, 0.0]), keras.ops.array([[4.0]])]
    clipped, norm = clip_by_global_norm(gradients, 1.0)
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(np.array(clipped[0]), [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(np.array(clipped[1]), [[0.8]], rtol=1e-6)


@pytest.mark.parametrize("max_norm", [0.0, 10.0])
def test_small_gradients_and_a_zero_bound_are_left_alone(max_norm):
    clipped, norm = clip_by_global_norm([keras.ops.array([3.0, 4.0])], max_norm)
    np.testing.assert_array_equal(np.array(clipped[0]), [3.0, 4.0])
    assert float(norm) == pytest.approx(5.0)


def test_state_is_named_after_slots_and_parameters():
    model = GPT(GPT2_CONFIG)
    optimizer = create_optimizer(TrainConfig(total_steps=1, optimizer="adafactor", min_dim_size_to_factor=32), model)
    state = optimizer.named_state(model.named_parameters())
    assert {"iterations", "row_mean/wte.weight", "column_mean/wte.weight", "second_moment/ln_f.bias"} <= set(state)
    assert "second_moment/wte.weight" not in state
    assert set(map(id, optimizer.variables)) - set(map(id, state.values())) == set(), "state that no checkpoint holds"
