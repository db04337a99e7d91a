"""A run of ten steps that takes a second or two, for the tests of what surrounds it."""

import dataclasses

import tensorflow as tf
from tiny_models import ALGPT2_CONFIG

from algpt2.config.cadence import Cadence
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.data.record_set import open_record_set
from algpt2.runs.plan import Run
from algpt2.training.loop import train

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


def train_tiny(run, strategy=None):
    """Trains it, or goes on with it; returns its result."""
    return train(run, strategy or tf.distribute.get_strategy())
