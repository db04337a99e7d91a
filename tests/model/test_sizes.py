import dataclasses

import pytest
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.model import GPTConfig
from algpt2.model.sizes import mfu, parameter_shapes, training_flops_per_token


def test_gpt2_takes_the_published_flops_per_token():
    assert training_flops_per_token(GPTConfig.from_preset("gpt2")) == pytest.approx(8.55e8, rel=1e-3)


@pytest.mark.parametrize("name", ["gpt2-tiny", "algpt2-tiny", "algpt2", "algpt2-shared", "algpt2-medium"])
def test_flops_are_three_times_those_of_every_matrix_product_of_the_forward_pass(name):
    """Twice the multiply-adds; biases and layer norms, which are in N but are no products, make 0.2% at most."""
    c = GPTConfig.from_preset(name)
    block = c.d_model * 3 * c.d_model + c.d_model * c.d_model + 2 * c.d_model * c.feed_forward_size
    scores_and_values = 2 * c.seq_len * c.d_model
    edges = 2 * c.d_model * c.embedding_size if c.embedding_size else 0
    head = c.vocab_size * (c.embedding_size or c.d_model)
    forward = 2 * (c.n_layer * (block + scores_and_values) + edges + head)
    assert training_flops_per_token(c) == pytest.approx(3 * forward, rel=1e-2)
    assert training_flops_per_token(c) > 3 * forward


def test_algpt2_counts_its_shared_block_once_for_each_layer():
    head, edges = 50257 * 128, 768 * 128 + 768 + 128 * 768 + 128
    blocks, last_norm = 12 * 7_087_872, 2 * 768
    expected = 6 * (head + edges + blocks + last_norm) + 12 * 12 * 768 * 1024
    assert training_flops_per_token(GPTConfig.from_preset("algpt2")) == expected == 663_364_608


def test_sharing_saves_parameters_and_no_arithmetic():
    shared = GPTConfig.from_preset("algpt2-shared")
    plain = dataclasses.replace(shared, share_layers=False)
    assert shared.parameter_count() < plain.parameter_count() / 2
    assert training_flops_per_token(shared) == training_flops_per_token(plain)


def test_the_original_run_reached_seven_percent_of_its_pod():
    """655k tokens/s on a v3-128, which is 128 cores and 64 chips of 123 TFLOP/s."""
    assert mfu(GPTConfig.from_preset("gpt2"), 655e3, 128, "v3") == pytest.approx(
        655e3 * 8.5517e8 / (64 * 123e12), rel=1e-4
    )
    assert mfu(GPTConfig.from_preset("gpt2"), 655e3, 128, "v3") == pytest.approx(0.07, abs=0.002)


@pytest.mark.parametrize("changes", [{}, {"d_ff": 48}, {"share_layers": False}, {"embedding_size": None}])
@pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])
def test_the_shapes_are_those_of_a_models_parameters_in_their_order(config, changes):
    from algpt2.model.gpt import GPT

    config = dataclasses.replace(config, **changes)
    expected = {name: tuple(parameter.shape) for name, parameter in GPT(config).named_parameters().items()}
    assert list(parameter_shapes(config).items()) == list(expected.items())
