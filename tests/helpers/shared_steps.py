"""Traced steps and validators that runs of equal settings share: tracing takes nearly all the time of a tiny run.

Whoever takes one finds it as if it were new, because its weights and its optimizer have their first values again.
"""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from algpt2.evaluation.validation import Validator
from algpt2.optim.create import TRAINERS_OWN
from algpt2.training import evaluations, loop
from algpt2.training import step as step_module
from algpt2.training.step import TrainStep, create_model


def shared_step(strategy, model_config, config):
    """Returns the step, with its first values. What it traces depends on nothing but these settings and the loss."""
    step, first_values = _step_and_first_values(strategy, model_config, config, step_module.mean_head_nats)
    for variable, value in first_values:
        variable.assign(value)
    return step


@functools.lru_cache(maxsize=16)
def _step_and_first_values(strategy, model_config, config, _):
    with strategy.scope():
        model = create_model(model_config, config)
    step = TrainStep(strategy, model, config)
    state = step.optimizer.named_state(model.named_parameters())
    variables = [*step.parameters, *state.values()]
    return step, [(variable, np.array(variable.numpy())) for variable in variables]


def _model(model_config, config):
    return shared_step(tf.distribute.get_strategy(), model_config, config).model


def _train_step(strategy, model, config, create_optimizer=TRAINERS_OWN):
    assert create_optimizer is TRAINERS_OWN, "a step with changes to the optimizer is not shared"
    step = shared_step(strategy, model.config, config)
    assert step.model is model
    return step


@functools.lru_cache(maxsize=16)
def _validator(strategy, model, record_set, batch_size, jit_compile=True):
    return Validator(strategy, model, record_set, batch_size, jit_compile)


def forget():
    """Frees all of them."""
    _step_and_first_values.cache_clear()
    _validator.cache_clear()


@contextlib.contextmanager
def sharing_steps():
    """Lets the runs of the block share their steps and validators with all others of equal settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "create_model", _model)
        patch.setattr(loop, "TrainStep", _train_step)
        patch.setattr(evaluations, "Validator", _validator)
        yield
