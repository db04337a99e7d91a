import dataclasses
import math

import pytest
from tiny_models import ALGPT2_CONFIG

from algpt2.config.model import GPTConfig, preset_names
from algpt2.config.training import OPTIMIZERS, SHARDED_OPTIMIZERS, TrainConfig
from algpt2.model.sizes import parameter_shapes
from algpt2.preflight.memory_estimate import checkpoint_bytes, optimizer_state_bytes, replica_bytes

TRAIN = TrainConfig(total_steps=10)


@pytest.mark.parametrize("name", preset_names())
def test_the_shapes_hold_every_parameter_of_every_preset(name):
    preset = GPTConfig.from_preset(name)
    assert sum(map(math.prod, parameter_shapes(preset).values())) == preset.parameter_count()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("beta_1", [None, 0.9])
def test_the_optimizer_state_is_as_large_as_the_real_one(tiny_config, optimizer, beta_1):
    from algpt2.optim.create import create_optimizer
    from algpt2.training.step import create_model

    train = dataclasses.replace(TRAIN, optimizer=optimizer, beta_1=beta_1, min_dim_size_to_factor=16)
    real = create_optimizer(train, create_model(tiny_config, train))
    assert optimizer_state_bytes(tiny_config, train) == real.state_bytes()


@pytest.mark.parametrize("optimizer", SHARDED_OPTIMIZERS)
@pytest.mark.parametrize("n_replicas", [2, 5])
def test_a_replicas_part_of_the_state_is_as_large_as_the_real_one(tiny_config, optimizer, n_replicas):
    from algpt2.optim.create import create_optimizer
    from algpt2.preflight.step_export import AbsentReplicas
    from algpt2.training.step import create_model

    train = dataclasses.replace(TRAIN, optimizer=optimizer, shard_optimizer_state=True, ema_decay=0.9)
    real = create_optimizer(train, create_model(tiny_config, train), AbsentReplicas(n_replicas))
    assert optimizer_state_bytes(tiny_config, train, n_replicas) == real.state_bytes()
    assert replica_bytes(tiny_config, train, 1, n_replicas)["optimizer state"] == real.state_bytes()
    assert checkpoint_bytes(tiny_config, train) == checkpoint_bytes(
        tiny_config, dataclasses.replace(train, shard_optimizer_state=False)
    )


def test_a_checkpoint_of_adamw_is_three_times_the_parameters_and_of_adafactor_hardly_more_than_them():
    model = GPTConfig.from_preset("gpt2")
    assert checkpoint_bytes(model, TRAIN) == 12 * 124_439_808
    adafactor = dataclasses.replace(TRAIN, optimizer="adafactor")
    assert 4 * 124_439_808 < checkpoint_bytes(model, adafactor) < 1.01 * 4 * 124_439_808


def test_the_estimate_bounds_what_a_compiled_gpt2_takes_on_a_v3_core():
    """Batch 4 x 1024, bfloat16, AdamW, by the TPU compiler, which reuses buffers."""
    for remat, compiled in (("none", 2.64), ("block", 2.03)):
        train = dataclasses.replace(TRAIN, compute_dtype="bfloat16", remat=remat)
        estimate = sum(replica_bytes(GPTConfig.from_preset("gpt2"), train, micro_batch=4).values()) / 2**30
        assert compiled < estimate < 1.5 * compiled


def test_sharing_layers_saves_parameters_and_no_activations():
    shared = replica_bytes(ALGPT2_CONFIG, TRAIN, 2)
    plain = replica_bytes(dataclasses.replace(ALGPT2_CONFIG, share_layers=False), TRAIN, 2)
    assert shared["parameters"] < plain["parameters"]
    assert shared["activations"] == plain["activations"]


def test_smaller_micro_batches_take_less_and_accumulating_them_a_second_gradient():
    model = GPTConfig.from_preset("gpt2")
    whole = replica_bytes(model, TRAIN, 8)
    parts = replica_bytes(model, dataclasses.replace(TRAIN, accumulation_steps=4), 2)
    assert parts["activations"] == whole["activations"] / 4
    assert parts["gradients"] == 2 * whole["gradients"]


def test_rematerialisation_keeps_one_layers_activations_and_the_input_of_each():
    """Of GPT-2, per token: 8 x 768 + 2 x 3072 numbers of one layer, and 12 inputs of 768."""
    config = TrainConfig(total_steps=1, batch_size=2, remat="block")
    activations = replica_bytes(GPTConfig.from_preset("gpt2"), config, micro_batch=2)["activations"]
    assert activations == 2 * 1024 * (8 * 768 + 2 * 3072 + 12 * 768) * 4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_moving_average_of_the_weights_takes_as_much_as_the_weights(optimizer):
    plain = TrainConfig(total_steps=1, optimizer=optimizer)
    averaged = dataclasses.replace(plain, ema_decay=0.9)
    more = checkpoint_bytes(ALGPT2_CONFIG, averaged) - checkpoint_bytes(ALGPT2_CONFIG, plain)
    assert more == 4 * ALGPT2_CONFIG.parameter_count()
