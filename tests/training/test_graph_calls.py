"""How steps are cut into graph calls changes nothing: not the dropout masks, not the weights."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_models import GPT2_CONFIG
from tiny_run import STEPS, tiny_run, train_tiny
from tiny_step import BATCH_SIZE, ONE, as_vector, batches, strategy_of

from algpt2.config.cadence import Cadence
from algpt2.config.training import TrainConfig
from algpt2.training.spikes import SkipState
from algpt2.training.step import TrainStep, create_model

WITH_DROPOUT = dataclasses.replace(GPT2_CONFIG, n_layer=1, dropout=0.5)


@pytest.fixture(scope="module")
def train_in_calls():
    """Trains new weights in graph calls of the given lengths; returns them and the losses."""
    strategy, config = strategy_of(ONE), TrainConfig(total_steps=7, batch_size=BATCH_SIZE, jit_compile=False)
    step = TrainStep(strategy, create_model(WITH_DROPOUT, config), config)
    initial = create_model(WITH_DROPOUT, config)
    # All batches are alike, so that the masks alone make the losses of the steps differ at first.
    rows = np.tile(np.arange(17, dtype="int32"), (7 * BATCH_SIZE, 1))

    def train(*lengths):
        step.model.copy_parameters(initial)
        for variable in step.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        iterator, first_step, losses = batches(strategy, rows), 0, []
        skips = SkipState.before_first_step(config)
        for n_steps in lengths:
            results, skips = step(iterator, first_step, n_steps, skips)
            first_step += n_steps
            losses.extend(results.losses.tolist())
        return as_vector(step.parameters), losses

    return train


@pytest.mark.parametrize("lengths", [(1,) * 7, (3, 3, 1), (2, 5)])
def test_two_calls_of_some_steps_are_one_call_of_their_sum(train_in_calls, lengths):
    """Catches: a step whose number within its call, or its call, decides its dropout masks."""
    expected, expected_losses = train_in_calls(7)
    weights, losses = train_in_calls(*lengths)
    assert losses == expected_losses
    np.testing.assert_array_equal(weights, expected)


def final_weights(records_folder, model_dir, steps_per_loop):
    run = tiny_run(records_folder, model_dir)
    model_config = dataclasses.replace(run.model_config, dropout=0.5)
    cadence = Cadence(STEPS, STEPS, STEPS, steps_per_loop)
    train_tiny(dataclasses.replace(run, model_config=model_config, cadence=cadence, val_records=None))
    return load_file(Path(model_dir) / f"checkpoints/step_{STEPS:08d}/model.safetensors")


def test_the_steps_of_a_loop_do_not_change_the_weights_of_a_run_with_dropout(records_folder, tmp_path):
    expected = final_weights(records_folder, tmp_path / "1", 1)
    for steps_per_loop in (3, 7):
        weights = final_weights(records_folder, tmp_path / str(steps_per_loop), steps_per_loop)
        for name, value in expected.items():
            np.testing.assert_array_equal(weights[name], value, err_msg=f"{name}, {steps_per_loop} steps a loop")
