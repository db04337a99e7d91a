"""How the worker processes of one run agree: on a number, on a decision, on the loss of one of them.

A run in one process has one worker, and so has a TPU pod, which one process drives; nothing is sent then.
"""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from algpt2.errors import TrainingStopped

LOSSES = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
LONGEST_MESSAGE = 300  # characters of its end, where TensorFlow says what happened; before that it says where


class Workers:
    """The processes that share a strategy. One of them, the chief, writes the run's files.

    `total`, `from_chief` and `any` ask the other workers and wait for them, so every worker must call them in the same
    order.

    Attributes:
      count: how many worker processes there are.
      is_chief: whether this process is the chief.

    Example:
      workers = Workers(tf.distribute.get_strategy())
      stop = workers.any(signal_came)  # true on all workers if the signal came to one of them
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.count, self.is_chief = _place(strategy)
        self._mean_over_workers = tf.function(self._mean, autograph=False)

    def total(self, value: float) -> float:
        """Returns the sum of every worker's value."""
        if self.count == 1:
            return value
        # All replicas of a worker bring that worker's value, so the mean over replicas is the mean over workers.
        return float(self._mean_over_workers(tf.constant(value, tf.float64)).numpy()) * self.count

    def from_chief(self, value: int) -> int:
        """Returns the chief's value on every worker."""
        return round(self.total(value if self.is_chief else 0))

    def any(self, flag: bool) -> bool:
        """Returns whether any worker's flag is set."""
        return self.total(float(flag)) > 0.5

    def _mean(self, value: tf.Tensor) -> tf.Tensor:
        def replica_mean(value: tf.Tensor) -> tf.Tensor:
            # `all_reduce` wants a tensor on the replica's own device, and the identity puts the value there.
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(value))

        return self._strategy.experimental_local_results(self._strategy.run(replica_mean, args=(value,)))[0]


def _place(strategy: tf.distribute.Strategy) -> tuple[int, bool]:
    """Returns how many worker processes there are, and whether this one is their chief."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 1, True
    resolver = strategy.cluster_resolver
    tasks = resolver.cluster_spec().as_dict()
    chief_type = "chief" if "chief" in tasks else "worker"
    return sum(map(len, tasks.values())), (resolver.task_type, resolver.task_id) == (chief_type, 0)


@contextlib.contextmanager
def lost_workers(count: int) -> Iterator[None]:
    """Turns the errors that TensorFlow raises when a machine of the run is gone into a `TrainingStopped`.

    Args:
      count: how many worker processes there are. If it is 1, what is gone is no other worker: it is a TPU that is
        reached over the network, or a service that TensorFlow reads from.
    """
    try:
        yield
    except LOSSES as error:
        found = " ".join(error.message.split())[-LONGEST_MESSAGE:]
        if count > 1:
            raise TrainingStopped(
                f"another worker of this run is gone ({found}): start all of them again to go on from the last "
                "checkpoint."
            ) from error
        raise TrainingStopped(
            f"TensorFlow must reach the run's devices and its records, and one of them is gone ({found}): check the "
            "TPU, if there is one, and the network, and run the same command again to go on from the last checkpoint."
        ) from error
