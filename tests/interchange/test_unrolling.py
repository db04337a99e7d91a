"""The algebra of an ALGPT-2 as a plain GPT-2, where NumPy alone tells."""

import dataclasses

import numpy as np
import pytest
from interchange import ALGPT2
from numpy_gpt import forward

from algpt2.errors import UserError
from algpt2.interchange.unrolling import plain_config, plain_parameters
from algpt2.model.sizes import parameter_shapes

WIDE = dataclasses.replace(ALGPT2, embedding_size=20)


def random_parameters(config, rng):
    return {
        name: rng.normal(scale=0.3, size=shape).astype("float32") for name, shape in parameter_shapes(config).items()
    }


def difference(config, parameters):
    """Returns how far the logits of the plain model are from those of the ALGPT-2, in float64."""
    plain = {name.removeprefix("transformer."): tensor for name, tensor in plain_parameters(config, parameters).items()}
    ids = np.arange(2 * config.seq_len).reshape(2, -1)
    ours, theirs = (forward(one, ids, config.n_layer, config.n_head) for one in (parameters, plain))
    return np.abs(ours - theirs).max()


def test_the_parameters_are_those_of_the_plain_config_and_a_head(rng):
    plain = plain_parameters(ALGPT2, random_parameters(ALGPT2, rng))
    head = {"lm_head.weight": (ALGPT2.vocab_size, ALGPT2.d_model)}
    expected = {f"transformer.{name}": shape for name, shape in parameter_shapes(plain_config(ALGPT2)).items()} | head
    assert {name: tensor.shape for name, tensor in plain.items()} == expected
    assert {tensor.dtype for tensor in plain.values()} == {np.dtype("float32")}


def test_a_shared_block_takes_the_memory_of_one(rng):
    plain = plain_parameters(ALGPT2, random_parameters(ALGPT2, rng))
    for name in ("attn.c_attn.weight", "ln_1.bias"):
        assert np.shares_memory(plain[f"transformer.h.0.{name}"], plain[f"transformer.h.2.{name}"])


def test_tables_of_many_rows_are_multiplied_out_to_the_last_row(rng):
    """Products are made of so many rows at a time."""
    config = dataclasses.replace(ALGPT2, vocab_size=4096 + 3)
    parameters = random_parameters(config, rng)
    plain = plain_parameters(config, parameters)
    table, kernel = (parameters[name].astype(float) for name in ("wte.weight", "embedding_projection.weight"))
    np.testing.assert_array_equal(plain["transformer.wte.weight"], (table @ kernel).astype("float32"))


def test_the_last_norms_bias_takes_in_that_of_the_head_however_large_it_is(rng):
    parameters = random_parameters(ALGPT2, rng)
    parameters["head_projection.bias"] *= 30
    assert difference(ALGPT2, parameters) < 1e-4


def test_a_head_without_a_left_inverse_is_refused(rng):
    """Two columns of its kernel are equal, and their biases are not."""
    parameters = random_parameters(ALGPT2, rng)
    parameters["head_projection.weight"][:, 3] = parameters["head_projection.weight"][:, 5]
    with pytest.raises(UserError, match="a matrix of too low a rank"):
        plain_parameters(ALGPT2, parameters)


def test_a_head_whose_inverse_would_take_all_digits_is_refused(rng):
    parameters = random_parameters(ALGPT2, rng)
    parameters["head_projection.weight"][:, 3] = parameters["head_projection.weight"][:, 5] * np.float32(1 + 2e-7)
    with pytest.raises(UserError, match="a matrix of too low a rank"):
        plain_parameters(ALGPT2, parameters)


def test_tables_wider_than_the_model_are_refused_only_if_the_heads_bias_is_in_the_way(rng):
    parameters = random_parameters(WIDE, rng)
    with pytest.raises(UserError, match="a matrix of too low a rank"):
        plain_parameters(WIDE, parameters)
    parameters["head_projection.bias"][:] = 0
    assert difference(WIDE, parameters) < 1e-5
