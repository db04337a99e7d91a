"""A run of ten steps that takes a moment, for the tests of what surrounds it."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
from shared_steps import sharing_steps
from tiny_models import ALGPT2_CONFIG

from algpt2.config.cadence import Cadence
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.optim.create import create_schedule
from algpt2.records.input_pipeline import train_batches
from algpt2.records.record_set import open_record_set
from algpt2.runs.plan import Run
from algpt2.training import step as step_module
from algpt2.training.loop import train
from algpt2.training.step import TrainStep

STEPS = 10


def tiny_run(records_folder, model_dir, tracking=None, **train_fields):
    """Returns the run: it logs every 2 steps, validates every 4 and saves every 3."""
    fields = {"total_steps": STEPS, "batch_size": 4, "learning_rate": 1e-2, "jit_compile": False, **train_fields}
    return Run(
        model_config=dataclasses.replace(ALGPT2_CONFIG, vocab_size=300, n_layer=1),
        train_config=TrainConfig(**fields),
        cadence=Cadence(log_every_steps=2, eval_every_steps=4, save_every_steps=3, steps_per_loop=5),
        train_records=open_record_set([records_folder], "train"),
        val_records=open_record_set([records_folder], "val"),
        model_dir=str(model_dir),
        tracking=tracking or TrackingConfig(tensorboard=False),
    )


def train_tiny(run, strategy=None, **options):
    """Trains it, or goes on with it; returns its result."""
    with sharing_steps():
        return train(run, strategy or tf.distribute.get_strategy(), **options)


def with_config(run, **changes):
    """Returns the run with other training settings."""
    return dataclasses.replace(run, train_config=dataclasses.replace(run.train_config, **changes))


def rate_of_update(run, update):
    """Returns the schedule's own value for the update with this 1-based number, which is that of step `update` - 1."""
    return float(create_schedule(run.train_config, run.tokens_per_step)(tf.constant(update - 1)))


class Killed(BaseException):
    """Stands for the process dying: nothing in the program may handle it."""


def kill_at(monkeypatch, step):
    """Lets the process die instead of making a step with this 0-based number, or a later one."""
    call = TrainStep.__call__

    def dying(self, iterator, first_step, *arguments):
        if first_step >= step:
            raise Killed
        return call(self, iterator, first_step, *arguments)

    monkeypatch.setattr(TrainStep, "__call__", dying)


def train_until_killed(run, monkeypatch, step):
    """Trains until the process dies before the step with this 0-based number, or a later one."""
    with monkeypatch.context() as patch:
        kill_at(patch, step)
        with pytest.raises(Killed):
            train_tiny(run)


def spoil_steps(monkeypatch, run, bad_steps):
    """Makes loss and gradients of these steps NaN: those of every batch with the targets that they read."""
    config = run.train_config
    context = tf.distribute.InputContext(1, 0, 1)
    batches = train_batches(run.train_records, config.batch_size, config.seed, 0, context).take(config.total_steps)
    records = np.stack([batch.numpy() for batch in batches])
    nats, bad_targets = _spoiled_nats()
    bad_targets.assign(records[list(bad_steps), :, 1:])
    monkeypatch.setattr(step_module, "mean_head_nats", nats)


@functools.cache
def _spoiled_nats():
    """Returns a loss, and the variable whose targets, (batches, rows, seq_len), make it NaN.

    A step that was traced with it serves whatever steps are bad.
    """
    bad_targets, nats = tf.Variable(np.zeros((0, 4, 16), "int32"), shape=(None, 4, 16)), step_module.mean_head_nats

    def spoiled(hidden, table, targets, count):
        is_bad = tf.reduce_any(tf.reduce_all(bad_targets == targets, axis=(1, 2)))
        return nats(hidden, table, targets, count) * tf.where(is_bad, np.nan, 1.0)

    return spoiled, bad_targets
