"""The first batches of a run, read before its folder is claimed, so that records that cannot be read claim nothing."""

import tensorflow as tf

from algpt2.devices.strategies import host_device
from algpt2.records.input_pipeline import train_batches, val_batches
from algpt2.records.input_stream import InputStream
from algpt2.runs.plan import Run


def require_first_batches(run: Run, strategy: tf.distribute.Strategy, steps_made: int) -> None:
    """Reads and checks one global batch of validation and, if the run has no checkpoint yet, one of training.

    Every worker does it for itself: each of them must be able to read the records, and when all find the same fault,
    all end at once and none waits for another. Nothing is kept of it: the order of the run's batches follows from its
    seed alone. A run that goes on from a checkpoint has read its training records before, and to find its place in them
    once more would take as long as resuming does.

    Args:
      run: what is to be trained.
      strategy: the devices; the batches are read on this machine's CPU.
      steps_made: the step of the run's newest checkpoint, 0 if it has none.

    Raises:
      tf.errors.OpError: a record is damaged, or is not what the manifest says, or cannot be read.
    """
    whole_batch = tf.distribute.InputContext()
    batch_size = run.train_config.batch_size
    with tf.device(host_device(strategy)):
        if steps_made == 0:
            _read_first(train_batches(run.train_records, batch_size, run.train_config.seed, 0, whole_batch))
        if run.val_records:
            _read_first(val_batches(run.val_records, batch_size, whole_batch))


def _read_first(batches: tf.data.Dataset) -> None:
    stream = InputStream(batches)
    next(stream.iterator)
    stream.close()
