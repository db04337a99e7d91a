"""The layer norms where their epsilon matters: on inputs whose variance is about as small as it."""

import numpy as np
import pytest
from numpy_gpt import forward
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.model.gpt import GPT

CONFIGS = pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])


@CONFIGS
def test_every_layer_norm_adds_gpt2s_epsilon_to_the_variance(config, rng):
    """The published config says 1e-05. At a variance of 1e-6, one of 1e-6 would make the outputs 2.3 times as large."""
    model = GPT(config)
    x = rng.normal(scale=1e-3, size=(1, 4, 32)).astype("float32")
    exact = x.astype(np.float64)
    expected = (exact - exact.mean(-1, keepdims=True)) / np.sqrt(exact.var(-1, keepdims=True) + 1e-05)
    for norm in (*(norm for block in model.h for norm in (block.ln_1, block.ln_2)), model.ln_f):
        np.testing.assert_allclose(norm(x).numpy(), expected, rtol=1e-4, atol=1e-6)


@CONFIGS
def test_a_new_model_agrees_with_numpy_where_the_epsilon_is_a_part_of_the_variance(config, rng):
    """At a tenth of their initial scale the embeddings' sum has a variance of 8e-6, which is below the epsilon."""
    model = GPT(config)
    for parameter in (model.wte, model.wpe):
        parameter.assign(0.1 * parameter.numpy())
    ids = rng.integers(config.vocab_size, size=(2, config.seq_len))
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    expected = forward(parameters, ids, config.n_layer, config.n_head)
    difference = np.abs(model(ids.astype("int32")).numpy() - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()
