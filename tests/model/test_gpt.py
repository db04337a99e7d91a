import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_gpt import forward
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG, randomised

from algpt2.config.model import GPTConfig
from algpt2.model.gpt import GPT
from algpt2.model.losses import inputs_and_targets, token_nats


def test_logits_agree_with_an_independent_numpy_forward_pass(tiny_config, rng):
    model = randomised(tiny_config)
    ids = rng.integers(tiny_config.vocab_size, size=(2, tiny_config.seq_len))
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    expected = forward(parameters, ids, tiny_config.n_layer, tiny_config.n_head)
    logits = model(ids.astype("int32")).numpy()
    assert np.abs(logits - expected).max() <= 1e-4
    assert np.abs(expected).max() > 1


def test_a_later_position_has_exactly_no_effect_on_earlier_logits(tiny_config, rng):
    model = randomised(tiny_config)
    ids = tf.constant(rng.integers(tiny_config.vocab_size, size=(2, tiny_config.seq_len)), tf.int32)
    t = 9
    with tf.GradientTape() as tape:
        early = tf.reduce_sum(model(ids)[:, : t + 1] ** 2)
    by_position = tf.convert_to_tensor(tape.gradient(early, model.wpe.value)).numpy()
    assert (by_position[t + 1 :] == 0).all()
    assert (np.abs(by_position[: t + 1]).max(axis=1) > 0).all()


def test_one_graph_gives_the_logits_of_batches_of_every_length(tiny_config, rng):
    model = randomised(tiny_config)
    of_any_length = tf.function(model, input_signature=[tf.TensorSpec((None, None), tf.int32)])
    for shape in ((1, 1), (3, 7), (2, tiny_config.seq_len)):
        ids = rng.integers(tiny_config.vocab_size, size=shape).astype("int32")
        np.testing.assert_allclose(of_any_length(ids), model(ids), atol=1e-5)


def test_dropout_is_refused_where_the_graph_does_not_know_the_length():
    model = GPT(dataclasses.replace(GPT2_CONFIG, dropout=0.1))
    train = tf.function(lambda ids: model(ids, training=True), input_signature=[tf.TensorSpec((None, None), tf.int32)])
    with pytest.raises(ValueError, match="dropout needs sequences whose length is known"):
        train(np.zeros((1, 4), "int32"))


def test_every_position_gets_a_gradient_in_training(tiny_config, rng):
    model = GPT(tiny_config)
    records = rng.integers(tiny_config.vocab_size, size=(2, tiny_config.seq_len + 1)).astype("int32")
    inputs, targets = inputs_and_targets(records)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(token_nats(model(inputs, training=True), targets))
    by_position = tf.convert_to_tensor(tape.gradient(loss, model.wpe.value)).numpy()
    assert (np.abs(by_position).max(axis=1) > 0).all()


def test_shared_parameters_are_counted_and_named_once(tiny_config):
    model = GPT(tiny_config)
    named = model.named_parameters()
    assert model.count_params() == tiny_config.parameter_count()
    assert {id(p) for p in named.values()} == {id(p) for p in model.trainable_variables}
    blocks = {name.split(".")[1] for name in named if name.startswith("h.")}
    assert len(blocks) == (1 if tiny_config.share_layers else tiny_config.n_layer)


@pytest.mark.parametrize("name", ["gpt2-tiny", "algpt2-tiny"])
def test_a_built_preset_has_the_parameters_that_its_config_counts(name):
    config = GPTConfig.from_preset(name)
    assert GPT(config).count_params() == config.parameter_count()


def test_a_model_of_a_presets_name_has_its_shape_and_the_constructors_options():
    model = GPT.from_preset("algpt2-tiny", seed=1, dtype="mixed_bfloat16")
    assert model.config == GPTConfig.from_preset("algpt2-tiny")
    assert model.compute_dtype == "bfloat16"
    np.testing.assert_array_equal(model.wte.numpy(), GPT(model.config, seed=1).wte.numpy())


def test_sharing_applies_one_block_n_layer_times(rng):
    shared = randomised(dataclasses.replace(GPT2_CONFIG, share_layers=True))
    unshared = GPT(GPT2_CONFIG)
    for name, parameter in unshared.named_parameters().items():
        parameter.assign(shared.named_parameters()[name.replace("h.1.", "h.0.")])
    ids = rng.integers(64, size=(1, 16)).astype("int32")
    np.testing.assert_array_equal(shared(ids).numpy(), unshared(ids).numpy())


def test_initial_parameters_are_a_function_of_the_seed(tiny_config):
    first, again, other = (GPT(tiny_config, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    matrices = [w.ravel()[:64] for w in first if w.ndim == 2]
    assert len({m.tobytes() for m in matrices}) == len(matrices), "two matrices start out equal"


def test_residual_projections_start_smaller_by_the_square_root_of_their_number():
    config = dataclasses.replace(GPT2_CONFIG, n_layer=8, d_model=128)
    named = GPT(config).named_parameters()
    assert np.std(named["h.3.mlp.c_fc.weight"].numpy()) == pytest.approx(0.02, rel=0.03)
    for name in ("h.3.attn.c_proj.weight", "h.3.mlp.c_proj.weight"):
        assert np.std(named[name].numpy()) == pytest.approx(0.02 / 4, rel=0.03)


def stream_std_at_input(config):
    ids = np.arange(config.vocab_size, dtype="int32")[None, : config.seq_len]
    return float(np.std(GPT(config).embed(ids).numpy()))


def test_a_factorized_stream_starts_as_wide_as_gpt2s():
    """The original's started at 0.0065 where GPT-2's starts at 0.028."""
    plain = dataclasses.replace(GPT2_CONFIG, d_model=256)
    factorized = dataclasses.replace(plain, embedding_size=64)
    assert stream_std_at_input(factorized) == pytest.approx(stream_std_at_input(plain), rel=0.15)


def test_a_shared_block_applied_many_times_does_not_blow_up_the_stream(rng):
    """The original's stream had a standard deviation of 4.7 after 12 shared layers, against 1.5 unshared."""
    config = dataclasses.replace(GPT2_CONFIG, n_layer=12, d_model=256, share_layers=True)
    model = GPT(config)
    x = model.embed(rng.integers(64, size=(4, 16)).astype("int32"))
    for application in range(12):
        x = model.h[0](x, application=application)
    assert np.std(x.numpy()) < 1.5


def test_the_stream_is_bfloat16_and_logits_are_float32_under_mixed_precision(tiny_config, rng):
    model = GPT(tiny_config, dtype="mixed_bfloat16")
    ids = rng.integers(tiny_config.vocab_size, size=(2, 16)).astype("int32")
    assert model.embed(ids).dtype == tf.bfloat16
    assert model.h[0](model.embed(ids)).dtype == tf.bfloat16
    assert model(ids).dtype == tf.float32
    assert {parameter.dtype for parameter in model.trainable_variables} == {"float32"}


def test_mixed_precision_logits_are_not_rounded_to_bfloat16(tiny_config):
    logits = randomised(tiny_config, dtype="mixed_bfloat16")(np.zeros((1, 16), "int32"))
    assert (tf.cast(tf.cast(logits, tf.bfloat16), tf.float32) != logits).numpy().mean() > 0.9


def test_the_attention_softmax_is_computed_in_float32(monkeypatch, rng):
    dtypes = []
    exp = keras.ops.exp
    monkeypatch.setattr("algpt2.model.attention.ops.exp", lambda x: dtypes.append(x.dtype) or exp(x))
    GPT(ALGPT2_CONFIG, dtype="mixed_bfloat16")(np.zeros((1, 16), "int32"))
    assert dtypes == [tf.float32] * ALGPT2_CONFIG.n_layer


def test_layer_norm_statistics_are_float32_under_mixed_precision(rng):
    """Around a mean of 50, a bfloat16 mean is off by up to 0.25, as much as the deviations themselves."""
    model = GPT(GPT2_CONFIG, dtype="mixed_bfloat16")
    x = tf.cast(50 + 0.5 * rng.normal(size=(4, 32)), tf.bfloat16)
    exact = x.numpy().astype(np.float64)
    expected = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    assert np.abs(model.ln_f(x).numpy().astype(np.float64) - expected).max() < 0.02


def test_the_model_trains_with_keras_fit(rng):
    config = dataclasses.replace(ALGPT2_CONFIG, dropout=0.1)
    model = GPT(config)
    records = np.tile(rng.integers(64, size=(1, 17)), (8, 1)).astype("int32")
    inputs, targets = inputs_and_targets(records)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=lambda y, z: token_nats(z, keras.ops.cast(y, "int32")),
        jit_compile=False,
    )
    history = model.fit(inputs, targets, batch_size=8, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0] - 0.5


def test_keras_fit_draws_unrelated_masks_in_each_step():
    """The generator counts up by one, as the sites do; such seeds would repeat masks of step n in step n + 1."""
    model = GPT(dataclasses.replace(GPT2_CONFIG, dropout=0.5))
    ids = np.zeros((1, 16), "int32")
    seeds = []
    embed = model.embed
    model.embed = lambda ids, position, seed: seeds.append(np.array(seed)) or embed(ids, position, seed)
    for _ in range(3):
        model(ids, training=True)
    assert np.abs(np.diff(seeds, axis=0)).min() > 1000


def test_a_model_comes_back_from_its_keras_config(tiny_config):
    model = GPT(tiny_config, seed=3, dtype="mixed_bfloat16")
    again = GPT.from_config(model.get_config())
    assert again.config == tiny_config
    assert again.compute_dtype == "bfloat16"
    for ours, theirs in zip(again.variables, model.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_projections_and_tables_start_with_the_scales_that_the_design_names():
    """A factorized model's projections keep the variance of their input: 1 / sqrt of its width, E in and D out."""
    named = GPT(dataclasses.replace(GPT2_CONFIG, d_model=256, embedding_size=64, vocab_size=512)).named_parameters()
    expected = {"embedding_projection.weight": 1 / 8, "head_projection.weight": 1 / 16, "wte.weight": 0.02}
    for name, stddev in expected.items():
        assert np.std(named[name].numpy()) == pytest.approx(stddev, rel=0.03), name
    assert np.std(named["wpe.weight"].numpy()) == pytest.approx(0.02, rel=0.1)


def test_the_tied_head_multiplies_with_the_float32_table_under_mixed_precision(tiny_config, rng):
    """Keras would cast the table to bfloat16 inside a call, which moves logits by some thousandths."""
    model = randomised(tiny_config, dtype="mixed_bfloat16")
    ids = rng.integers(tiny_config.vocab_size, size=(2, 16)).astype("int32")
    hidden = tf.cast(model.hidden_states(ids), tf.float32).numpy()
    np.testing.assert_allclose(model(ids).numpy(), hidden @ model.wte.numpy().T, rtol=1e-4, atol=1e-5)
