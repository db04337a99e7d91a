import dataclasses
import functools
import time

import numpy as np
import pytest
import tensorflow as tf
from marks import needs_host_compiler
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG
from tiny_step import (
    BATCH_SIZE,
    ONE,
    STEPS,
    TWO,
    as_vector,
    batches,
    random_rows,
    require_equal,
    run_steps,
    step_of,
    strategy_of,
    train,
)

from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.model.losses import inputs_and_targets, token_nats
from algpt2.training.spikes import SkipState
from algpt2.training.step import create_model, dropout_seed

ONE_LAYER = dataclasses.replace(GPT2_CONFIG, n_layer=1)
ONE_SHARED_LAYER = dataclasses.replace(ALGPT2_CONFIG, n_layer=1)
CLIPPED = {"clip_norm": 0.05, "min_dim_size_to_factor": 16, "jit_compile": False}


@pytest.mark.parametrize(
    ("model_config", "optimizer", "others"),
    [
        (ONE_LAYER, "adamw", ((ONE, 4), (TWO, 1), (TWO, 2))),
        (ALGPT2_CONFIG, "adafactor", ((TWO, 2),)),
        (ONE_SHARED_LAYER, "muon", ((TWO, 2),)),
    ],
)
def test_replicas_and_accumulation_give_the_same_parameters_as_one_large_batch(model_config, optimizer, others):
    """Catches: a clip before the all-reduce, a double reduction, a mean of means, a lost micro-batch.

    An optimizer sees nothing of how its gradient came about, so one of them is enough for every way.
    """
    expected = train(ONE, model_config, optimizer=optimizer, **CLIPPED)
    assert (expected[2] > 0.05).all(), "the clip must be active"
    for devices, accumulation_steps in others:
        other = train(devices, model_config, optimizer=optimizer, accumulation_steps=accumulation_steps, **CLIPPED)
        require_equal(other, expected)


@needs_host_compiler
def test_compiled_steps_on_two_replicas_with_accumulation_agree_with_plain_ones_on_one():
    plain = train(ONE, ONE_SHARED_LAYER, jit_compile=False)
    require_equal(train(ONE, ONE_SHARED_LAYER), plain)
    require_equal(train(TWO, ONE_SHARED_LAYER, accumulation_steps=2), plain)


@pytest.mark.parametrize(
    "schedule",
    [{"warmup_steps": 2}, {"decay": "tokens_cosine", "decay_tokens": 500.0}],
    ids=["steps", "tokens"],
)
def test_the_learning_rate_of_a_step_is_the_one_that_its_update_is_made_with(schedule):
    """The optimizer's own value before each update is the truth; the one after it belongs to the next step."""
    step, _, skips = run_steps(ONE, ONE_LAYER, random_rows(), n_steps=1, jit_compile=False, **schedule)
    iterator = batches(step.strategy, random_rows())
    used = []
    for number in range(1, STEPS):
        used.append(float(step.optimizer.learning_rate))
        _, skips = step(iterator, number, 1, skips)
    assert [step.learning_rate_of(number) for number in range(1, STEPS)] == used
    assert len(set(used)) > 1


def test_the_clip_changes_the_result():
    """Without it the tests above could not see a wrong clip."""
    clipped, *_ = train(ONE, ONE_LAYER, optimizer="adamw", **CLIPPED)
    free, *_ = train(ONE, ONE_LAYER, clip_norm=0.0, jit_compile=False)
    assert np.linalg.norm(clipped - free) / np.linalg.norm(free) > 1e-3


@pytest.mark.parametrize(("devices", "jit_compile"), [(ONE, True), (TWO, False)])
def test_training_repeats_bit_for_bit_with_dropout(devices, jit_compile):
    config = dataclasses.replace(ONE_SHARED_LAYER, dropout=0.2)
    step, *_ = run_steps(devices, config, random_rows(), accumulation_steps=2, jit_compile=jit_compile)
    first = as_vector(step.parameters)
    parameters, initial = (model.named_parameters() for model in (step.model, create_model(config, step.config)))
    for name, variable in parameters.items():
        variable.assign(initial[name])
    for variable in step.optimizer.named_state(parameters).values():
        variable.assign(tf.zeros_like(variable))
    step(batches(step.strategy, random_rows()), 0, STEPS, SkipState.before_first_step(step.config))
    np.testing.assert_array_equal(as_vector(step.parameters), first)


def test_replicas_and_micro_batches_have_their_own_masks():
    """Equal rows everywhere: with the masks of the first half for both, the whole batch would have that half's loss."""
    config, rows = dataclasses.replace(ONE_LAYER, dropout=0.2), np.tile(random_rows()[:1], (BATCH_SIZE, 1))
    half, micro_batches, replicas = (
        run_steps(devices, config, rows, 1, jit_compile=False, **settings)[1].losses[0]
        for devices, settings in ((ONE, {"batch_size": BATCH_SIZE // 2}), (ONE, {"accumulation_steps": 2}), (TWO, {}))
    )
    assert abs(micro_batches - half) > 1e-4 * half
    assert abs(replicas - half) > 1e-4 * half


def test_the_dropout_seed_differs_in_every_number_it_is_made_of():
    numbers = [
        (seed, step, micro, replica) for seed in (0, 1) for step in (0, 1) for micro in (0, 1) for replica in (0, 1)
    ]
    seeds = {tuple(dropout_seed(n[0], *map(tf.constant, n[1:])).numpy()) for n in numbers}
    assert len(seeds) == len(numbers)
    assert np.array_equal(dropout_seed(1, *map(tf.constant, (2, 3, 4))), dropout_seed(1, *map(tf.constant, (2, 3, 4))))


def test_the_loss_is_the_mean_over_the_global_batch_before_the_update():
    _, losses, _ = train(TWO, ONE_LAYER, n_steps=1, optimizer="adamw", accumulation_steps=2, **CLIPPED)
    inputs, targets = inputs_and_targets(random_rows()[:BATCH_SIZE])
    assert losses[0] == pytest.approx(float(np.mean(token_nats(GPT(ONE_LAYER)(inputs), targets))), rel=1e-5)


def test_bfloat16_compute_keeps_float32_parameters_and_about_the_same_loss():
    _, losses, _ = train(ONE, ONE_SHARED_LAYER, jit_compile=False)
    parameters, other_losses, _ = train(ONE, ONE_SHARED_LAYER, compute_dtype="bfloat16", jit_compile=False)
    np.testing.assert_allclose(other_losses, losses, rtol=0.02)
    assert (other_losses != losses).any(), "nothing was computed in bfloat16"
    assert np.isfinite(parameters).all()


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match="multiple of replicas x accumulation_steps = 2 x 3, received 8: 12 would do"):
        train(TWO, GPT2_CONFIG, accumulation_steps=3)


def copies(variables):
    return {name: np.array(variable.numpy()) for name, variable in variables.items()}


def state_of(step):
    """Returns parameters and optimizer state, without the update count."""
    parameters = step.model.named_parameters()
    state = copies(parameters) | copies(step.optimizer.named_state(parameters))
    del state["iterations"]
    return state


def state_after(n_steps, devices, rows, **config):
    """Returns the state of a model of one layer after `n_steps`, and the results."""
    config = {"jit_compile": False, "min_dim_size_to_factor": 16, **config}
    step, results, _ = run_steps(devices, ONE_LAYER, rows, n_steps, **config)
    return state_of(step), results


@functools.cache
def rows_with_a_spike():
    """Four times one batch, then one whose loss is higher for an untrained model."""
    usual, odd = np.split(random_rows()[: 2 * BATCH_SIZE], 2)
    losses = [run_steps(ONE, ONE_LAYER, rows, 1, jit_compile=False)[1].losses[0] for rows in (usual, odd)]
    if losses[0] > losses[1]:
        usual, odd = odd, usual
    return np.concatenate([usual] * 4 + [odd])


SPIKE_CONFIG = {"learning_rate": 1e-6, "weight_decay": 0.1, "spike_window_steps": 4}


@pytest.mark.parametrize(
    ("devices", "optimizer", "is_sharded"),
    [(ONE, "adafactor", False), (TWO, "adamw", False), (TWO, "muon", False), (TWO, "adamw", True), (TWO, "muon", True)],
)
def test_a_spike_is_skipped_and_changes_no_parameter_and_no_moment_on_any_replica(devices, optimizer, is_sharded):
    """Catches: a decay or moment that is updated all the same, replicas that disagree, a window with spikes in it."""
    config = {**SPIKE_CONFIG, "optimizer": optimizer, "skip_spikes": 6.0, "shard_optimizer_state": is_sharded}
    before, _ = state_after(4, devices, rows_with_a_spike(), **config)
    after, results = state_after(5, devices, rows_with_a_spike(), **config)
    assert results.skipped.tolist() == [False, False, False, False, True]
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


def test_without_skipping_the_same_spike_changes_every_parameter():
    before, _ = state_after(4, ONE, rows_with_a_spike(), **SPIKE_CONFIG)
    after, results = state_after(5, ONE, rows_with_a_spike(), **SPIKE_CONFIG)
    assert not results.skipped.any()
    assert all((after[name] != value).any() for name, value in before.items() if name != "h.0.attn.c_attn.bias")


def test_a_loss_that_is_not_finite_is_skipped_before_the_window_is_full(monkeypatch):
    from algpt2.training import step

    nats = step.mean_head_nats

    def nats_of(hidden, table, targets, count):
        return nats(hidden, table, targets, count) + tf.where(tf.reduce_any(targets == 63), np.nan, 0.0)

    monkeypatch.setattr(step, "mean_head_nats", nats_of)
    rows = random_rows() % 63
    rows[2 * BATCH_SIZE, 5] = 63
    step, results, skips = run_steps(ONE, ONE_LAYER, rows, skip_spikes=6.0)
    assert results.skipped.tolist() == [False, False, True, False, False]
    assert np.isnan(results.losses[2])
    assert np.isfinite(as_vector(step.parameters)).all()
    assert np.isfinite(skips.window).sum() == 2 * 4
    assert (skips.skipped_steps, skips.skipped_in_a_row) == (1, 0)


def test_the_moving_average_of_the_weights_is_their_weighted_mean_over_all_updates():
    decay, rows, config = 0.6, random_rows(), {"optimizer": "adamw", **CLIPPED}
    step, _, skips = run_steps(TWO, ONE_LAYER, rows, 1, ema_decay=decay, **config)
    history = [state_of(step)]
    iterator = batches(strategy_of(TWO), rows)
    for number in range(1, STEPS):
        _, skips = step(iterator, number, 1, skips)
        history.append(state_of(step))
    weights = decay ** np.arange(STEPS - 1, -1, -1.0)
    for name in ("wte.weight", "h.0.mlp.c_fc.bias"):
        expected = sum(weight * state[name] for weight, state in zip(weights, history, strict=True)) * (1 - decay)
        np.testing.assert_allclose(history[-1][f"ema/{name}"], expected, rtol=1e-5, atol=1e-8)
    plain, _ = state_after(1, TWO, rows, **config)
    np.testing.assert_array_equal(history[0]["wte.weight"], plain["wte.weight"], "it must not change the weights")


@pytest.mark.parametrize(("devices", "accumulation_steps"), [(ONE, 1), (TWO, 2)])
def test_short_sequences_first_train_on_every_token_of_the_batch_in_pieces(devices, accumulation_steps):
    """The first step, of pieces of 4 positions, against a gradient taken here from pieces cut by hand."""
    rows = random_rows()[:BATCH_SIZE]
    step, results, _ = run_steps(
        *(devices, ONE_LAYER, rows, 1),
        **{"initial_seq_len": 4, "seq_len_warmup_steps": 4, "accumulation_steps": accumulation_steps},
        jit_compile=False,
    )
    model = create_model(ONE_LAYER, step.config)
    pieces = np.stack([row[i : i + 5] for row in rows for i in range(0, 16, 4)])
    inputs, targets = inputs_and_targets(tf.constant(pieces))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(token_nats(model(inputs), targets))
    norm = tf.linalg.global_norm(tape.gradient(loss, [p.value for p in model.named_parameters().values()]))
    assert results.losses[0] == pytest.approx(loss.numpy(), rel=1e-5)
    assert results.norms[0] == pytest.approx(norm.numpy(), rel=1e-4)


@pytest.mark.parametrize(("share_layers", "devices", "remat"), [(True, ONE, "block"), (False, TWO, "none")])
def test_few_layers_first_train_the_model_that_has_no_others(share_layers, devices, remat):
    """The first step of a model of four layers, of which two have joined, against a model of these two."""
    four = dataclasses.replace(GPT2_CONFIG, n_layer=4, share_layers=share_layers)
    rows = random_rows()[:BATCH_SIZE]
    settings = {"initial_n_layer": 2, "depth_warmup_steps": 2, "weight_decay": 0.0, "remat": remat}
    step, results, _ = run_steps(devices, four, rows, 1, **settings, jit_compile=False)
    initial, two = create_model(four, step.config).named_parameters(), GPT(dataclasses.replace(four, n_layer=2))
    for name, parameter in two.named_parameters().items():
        parameter.assign(initial[name])
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(token_nats(two(rows[:, :-1]), rows[:, 1:]))
    norm = tf.linalg.global_norm(tape.gradient(loss, [p.value for p in two.named_parameters().values()]))
    assert results.losses[0] == pytest.approx(loss.numpy(), rel=1e-5)
    assert results.norms[0] == pytest.approx(norm.numpy(), rel=1e-4)
    if not share_layers:
        name = "h.3.mlp.c_fc.weight"
        np.testing.assert_array_equal(step.model.named_parameters()[name], initial[name])


def test_steps_measure_the_time_that_input_takes_to_come():
    step = step_of(ONE, ONE_LAYER, jit_compile=False)

    def slow(row):
        return tf.numpy_function(lambda row: time.sleep(0.1) or row, [row], tf.int32)

    dataset = tf.data.Dataset.from_tensors(random_rows()[:BATCH_SIZE]).repeat(8).map(slow)
    dataset = dataset.map(lambda rows: tf.ensure_shape(rows, (BATCH_SIZE, 17)))
    iterator = iter(dataset)
    _, skips = step(iterator, 0, 2, SkipState.before_first_step(step.config))
    start = time.perf_counter()
    results, _ = step(iterator, 2, 2, skips)
    assert 0.1 <= results.input_seconds <= time.perf_counter() - start
