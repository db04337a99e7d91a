"""What several worker processes of one run agree on. With one process, or one client of a TPU pod, nothing crosses."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from algpt2.errors import TrainingStopped


class Workers:
    """The processes that share a strategy. One of them, the chief, writes; all of them decide alike.

    Every method that asks the others must be called by every worker, in the same order.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        self._strategy = strategy
        self.count, self.is_chief = _place(strategy)
        self._mean_over_workers = tf.function(self._mean, autograph=False)

    def total(self, value: float) -> float:
        """Returns the sum of every worker's value."""
        if self.count == 1:
            return value
        # Each worker's replicas bring the same value, so the mean over replicas is that over workers.
        return float(self._mean_over_workers(tf.constant(value, tf.float64)).numpy()) * self.count

    def from_chief(self, value: int) -> int:
        """Returns the chief's value on every worker."""
        return round(self.total(value if self.is_chief else 0))

    def any(self, flag: bool) -> bool:
        """Returns whether any worker's flag is set."""
        return self.total(float(flag)) > 0.5

    def _mean(self, value: tf.Tensor) -> tf.Tensor:
        def replica_mean(value: tf.Tensor) -> tf.Tensor:
            # The identity puts the value on the replica's device, which the reduction asks for.
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
def lost_workers() -> Iterator[None]:
    """Turns what TensorFlow says when another worker process is gone into a `TrainingStopped`."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        found = " ".join(error.message.split())[:200]
        raise TrainingStopped(
            f"another worker of this run is gone ({found}): start all of them again to go on from the last checkpoint."
        ) from error
