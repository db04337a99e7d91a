"""What a training costs: as much as its steps, of which the first may have fewer layers or positions."""

import dataclasses

import pytest
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.training import TrainConfig
from algpt2.model.sizes import training_flops, training_flops_per_token

TRAINING = TrainConfig(total_steps=10, batch_size=2)


@pytest.mark.parametrize(
    "model", [GPT2_CONFIG, ALGPT2_CONFIG, dataclasses.replace(GPT2_CONFIG, attention_sharing="ends 1")]
)
def test_steps_of_one_shape_cost_what_their_tokens_cost(model):
    assert training_flops(1280, model, TRAINING) == 1280 * training_flops_per_token(model)


@pytest.mark.parametrize("sharing", ["none", "all", "0 0 1 1"])
def test_steps_of_few_layers_cost_less_by_their_part(sharing):
    model = dataclasses.replace(GPT2_CONFIG, n_layer=4, attention_sharing=sharing, feed_forward_sharing=sharing)
    grown = dataclasses.replace(TRAINING, initial_n_layer=2, depth_warmup_steps=5)
    shallow = dataclasses.replace(GPT2_CONFIG, n_layer=2)
    expected = 640 * training_flops_per_token(model) + 640 * training_flops_per_token(shallow)
    assert training_flops(1280, model, grown) == expected


def test_steps_of_short_rows_cost_less_attention():
    model = dataclasses.replace(GPT2_CONFIG, seq_len=16)
    grown = dataclasses.replace(TRAINING, initial_seq_len=8, seq_len_warmup_steps=5)
    saved = 12 * model.n_layer * model.d_model * 8 * 640
    assert training_flops(1280, model, grown) == 1280 * training_flops_per_token(model) - saved
