"""Every field of `TrainConfig` reaches what it configures: another value changes what is observed there."""

import ast
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from marks import needs_host_compiler
from places import REPOSITORY
from tiny_models import GPT2_CONFIG
from tiny_step import ONE, strategy_of

from algpt2.config.training import TrainConfig
from algpt2.model.gpt import GPT
from algpt2.optim.create import create_optimizer, create_schedule
from algpt2.training.spikes import SkipState
from algpt2.training.step import TrainStep, create_model

MODEL_CONFIG = dataclasses.replace(GPT2_CONFIG, n_layer=1, dropout=0.1)
STEPS, BATCH_SIZE = 20, 8
BASE = {"total_steps": STEPS, "batch_size": BATCH_SIZE, "jit_compile": False}


@functools.cache
def schedule_of(config):
    """The learning rates of all steps and of some after them."""
    schedule = create_schedule(config, config.batch_size * MODEL_CONFIG.seq_len)
    return schedule(np.arange(2 * STEPS)).numpy().tobytes()


@functools.cache
def weights_after_updates(config):
    """The weights after three updates with gradients that are always the same."""
    model, rng = GPT(MODEL_CONFIG), np.random.default_rng(0)
    optimizer = create_optimizer(config, model)
    parameters = list(model.named_parameters().values())
    for _ in range(3):
        # Tiny ones, so that AdamW's epsilon matters.
        gradients = [tf.constant(1e-6 * rng.normal(size=p.shape), tf.float32) for p in parameters]
        optimizer.apply(gradients, parameters)
    return b"".join(parameter.numpy().tobytes() for parameter in parameters)


@functools.cache
def optimizer_state(config):
    """The names and shapes of the optimizer's state."""
    model = GPT(MODEL_CONFIG)
    state = create_optimizer(config, model).named_state(model.named_parameters())
    return tuple((name, tuple(variable.shape)) for name, variable in state.items())


@functools.cache
def program(config):
    """How many operations of each kind the step has, apart for what XLA compiles, and the shapes of its arguments."""
    strategy = strategy_of(ONE)
    function, arguments = TrainStep(strategy, create_model(MODEL_CONFIG, config), config).replica_function()
    graph = tf.function(function, autograph=False).get_concrete_function(*arguments).graph.as_graph_def()
    counts = Counter(node.op for node in graph.node)
    for part in graph.library.function:
        counts += Counter((node.op, part.attr["_XlaMustCompile"].b) for node in part.node_def)
    return counts, arguments


@functools.cache
def initial_weights(config):
    """The weights that a run begins with."""
    return create_model(MODEL_CONFIG, config).wte.numpy().tobytes()


@functools.cache
def spike_window(config):
    """The shape of the window of recent losses, by which a spike is known."""
    return SkipState.before_first_step(config).window.shape


class Change(NamedTuple):
    """A field's other value, what it must change, and the settings without which it would change nothing."""

    value: Any
    changes: Callable[[TrainConfig], Any]
    beside: dict[str, Any] = {}


ADAFACTOR, MUON = {"optimizer": "adafactor"}, {"optimizer": "muon"}
WSD, TOKENS_COSINE = {"decay": "wsd"}, {"decay": "tokens_cosine"}
CHANGES = {
    "total_steps": Change(2 * STEPS, schedule_of),
    "batch_size": Change(2 * BATCH_SIZE, program),
    "accumulation_steps": Change(2, program),
    "optimizer": Change("muon", weights_after_updates),
    "learning_rate": Change(1e-3, weights_after_updates),
    "warmup_steps": Change(5, schedule_of),
    "warmup_tokens": Change(500.0, schedule_of),
    "decay": Change("linear", schedule_of),
    "cooldown_fraction": Change(0.5, schedule_of, WSD),
    "cooldown_shape": Change("1-sqrt", schedule_of, WSD),
    "decay_tokens": Change(1000.0, schedule_of, {**TOKENS_COSINE, "decay_tokens": 2000.0}),
    "final_learning_rate_fraction": Change(0.5, schedule_of),
    "beta_1": Change(0.5, weights_after_updates),
    "beta_2": Change(0.5, weights_after_updates),
    "muon_momentum": Change(0.5, weights_after_updates, MUON),
    "epsilon": Change(1e-5, weights_after_updates),
    "weight_decay": Change(0.5, weights_after_updates),
    "clip_norm": Change(0.0, program),
    "ema_decay": Change(0.9, optimizer_state),
    "skip_spikes": Change(6.0, program),
    "spike_window_steps": Change(7, spike_window, {"skip_spikes": 6.0}),
    "multiply_by_parameter_scale": Change(False, weights_after_updates, ADAFACTOR),
    "relative_step": Change(True, weights_after_updates, {**ADAFACTOR, "learning_rate": 2.0}),
    "min_dim_size_to_factor": Change(16, optimizer_state, ADAFACTOR),
    "compute_dtype": Change("bfloat16", program),
    "remat": Change("block", program),
    "jit_compile": Change(True, program),
    "seed": Change(1, initial_weights),
}
# Fields that only a run, or steps on real input, can show, and the test that holds each.
TESTED_ELSEWHERE = {
    "max_skips": (
        "tests/training/test_loop.py",
        "test_too_many_skips_in_a_row_stop_the_run_and_nothing_after_them_is_saved",
    ),
    "shard_optimizer_state": (
        "tests/optim/test_sharded_state.py",
        "test_one_replica_has_nothing_to_share_out",
    ),
    "initial_seq_len": (
        "tests/training/test_step.py",
        "test_short_sequences_first_train_on_every_token_of_the_batch_in_pieces",
    ),
    "seq_len_warmup_steps": (
        "tests/config/test_seq_len_warmup.py",
        "test_the_length_doubles_at_equal_distances_and_then_stays",
    ),
    "initial_n_layer": (
        "tests/training/test_step.py",
        "test_few_layers_first_train_the_model_that_has_no_others",
    ),
    "depth_warmup_steps": (
        "tests/config/test_depth_warmup.py",
        "test_layers_join_at_equal_distances_until_all_are_there",
    ),
}
# Further optimizers and schedules in which a field acts.
AND_ALSO = [
    ("beta_1", Change(0.5, optimizer_state, ADAFACTOR)),
    ("beta_1", Change(0.5, weights_after_updates, MUON)),
    ("beta_2", Change(0.5, weights_after_updates, MUON)),
    ("epsilon", Change(1e-5, weights_after_updates, MUON)),
    ("weight_decay", Change(0.5, weights_after_updates, ADAFACTOR)),
    ("weight_decay", Change(0.5, weights_after_updates, MUON)),
    ("ema_decay", Change(0.9, optimizer_state, ADAFACTOR)),
    ("ema_decay", Change(0.9, optimizer_state, MUON)),
    ("batch_size", Change(2 * BATCH_SIZE, schedule_of, {"warmup_tokens": 500.0})),
    ("min_dim_size_to_factor", Change(16, weights_after_updates, ADAFACTOR)),
]


@needs_host_compiler
@pytest.mark.parametrize(("field", "change"), [*CHANGES.items(), *AND_ALSO])
def test_a_field_that_is_changed_changes_what_it_is_for(field, change):
    before = TrainConfig(**{**BASE, **change.beside})
    after = dataclasses.replace(before, **{field: change.value})
    assert change.changes(after) != change.changes(before)


@needs_host_compiler
@pytest.mark.parametrize(
    "observe", sorted({change.changes for change in CHANGES.values()}, key=lambda one: one.__name__)
)
def test_equal_configurations_look_equal(observe):
    """What changed by itself would show nothing in the test above."""
    config = TrainConfig(**BASE)
    assert observe.__wrapped__(config) == observe(config)


def test_every_field_has_its_place_in_this_test():
    """A new field needs a line above that says what it changes, or which test observes it."""
    assert set(CHANGES) | set(TESTED_ELSEWHERE) == {field.name for field in dataclasses.fields(TrainConfig)}
    assert not set(CHANGES) & set(TESTED_ELSEWHERE)
    for file, function in TESTED_ELSEWHERE.values():
        defined = ast.parse((REPOSITORY / file).read_text("utf-8")).body
        assert function in {node.name for node in defined if isinstance(node, ast.FunctionDef)}
