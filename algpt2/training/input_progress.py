"""How many batches the steps of a run have asked for, and how many came, for other threads to look at."""

import tensorflow as tf

from algpt2.training.stall_warning import InputCounts

Batches = tf.data.Iterator | tf.distribute.DistributedIterator
Batch = tf.Tensor | tf.distribute.DistributedValues | tuple[tf.Tensor | tf.distribute.DistributedValues, ...]


class InputProgress:
    """Asks for batches inside a graph, and counts there, because Python cannot see how far a graph call has come.

    The counts are variables on the CPU on which the steps are driven, where the iterator is too: that of the TPU's
    machine, if the TPU is reached over the network. Elsewhere each step would have to cross the network for them. They
    belong to no strategy.
    """

    def __init__(self) -> None:
        with tf.device("CPU:0"):
            self._asked, self._came = (tf.Variable(0, trainable=False, dtype=tf.int64) for _ in InputCounts._fields)

    def counts(self) -> InputCounts:
        """Returns the present counts, also while a graph call runs on another thread."""
        came = int(self._came.numpy())  # first, because whatever came was asked for
        return InputCounts(int(self._asked.numpy()), came)

    def timed_next(self, iterator: Batches) -> tuple[Batch, tf.Tensor]:
        """Returns an iterator's next value, and the seconds that it took to come, float64 (); in a graph."""
        with tf.control_dependencies([self._asked.assign_add(1, read_value=False)]):
            start = tf.timestamp()
        with tf.control_dependencies([start]):
            value = next(iterator)
        with tf.control_dependencies(tf.nest.flatten(value, expand_composites=True)):
            self._came.assign_add(1, read_value=False)
            return value, tf.timestamp() - start
