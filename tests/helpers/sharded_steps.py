"""Steps from one checkpoint to the next, on any devices, for the tests of state that is shared out.

As a program it makes them on four devices, whose optimizer's state is shared out. Its arguments are the folder of the
checkpoints and, as JSON, the arguments of each call of `make_steps`.
"""

import dataclasses
import json
import sys
from pathlib import Path

import tensorflow as tf

if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
    # As tests/conftest.py does: to optimize a graph takes longer than all its calls here.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

from shared_steps import shared_step
from tiny_checkpoints import TOKENIZER_JSON
from tiny_models import GPT2_CONFIG
from tiny_step import BATCH_SIZE, batches, random_rows

from algpt2.checkpoints.folder import Checkpoint, CheckpointState
from algpt2.checkpoints.save_load import restore_checkpoint, save_checkpoint, take_snapshot
from algpt2.config.training import TrainConfig
from algpt2.training.spikes import SkipState

CONFIG = TrainConfig(5, batch_size=BATCH_SIZE, learning_rate=1e-2, ema_decay=0.9, clip_norm=0.5, jit_compile=False)


def make_steps(strategy, folder, name, begin_with=None, first_step=0, n_steps=3, **settings):
    """Goes on from a checkpoint of the folder, or begins, and saves what the last step leaves; returns the step."""
    config = dataclasses.replace(CONFIG, **settings)
    step = shared_step(strategy, dataclasses.replace(GPT2_CONFIG, n_layer=1), config)
    if begin_with:
        restore_checkpoint(Checkpoint(str(Path(folder, begin_with))), step.model, step.optimizer)
    rows = batches(strategy, random_rows()[first_step * BATCH_SIZE :])
    step(rows, first_step, n_steps, SkipState.before_first_step(config))
    done = first_step + n_steps
    state = CheckpointState(done, 10 * done, config.to_dict(), "abc", step.n_replicas)
    save_checkpoint(str(Path(folder, name)), take_snapshot(step.model, step.optimizer), state, TOKENIZER_JSON)
    return step


def main(folder, calls):
    """Makes the steps on four devices."""
    strategy = tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(4)])
    for call in json.loads(calls):
        make_steps(strategy, folder, shard_optimizer_state=True, **call)


if __name__ == "__main__":
    main(*sys.argv[1:])
