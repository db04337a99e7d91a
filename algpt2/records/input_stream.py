"""An iterator over batches of records, which can be let go of without waiting for what it reads."""

import threading
from collections.abc import Iterable

import tensorflow as tf

_open_streams: set["InputStream"] = set()
"""Those of failed reads stay here until the process ends, which does not wait for them (`algpt2.cli.end_process`)."""


class InputStream:
    """Global batches, one after the other; `iterator` is what gives them.

    Whoever deletes an iterator waits for its reads under way, and TensorFlow tries those again for minutes while a
    service is away. So `close` lets a thread of its own delete it. If a read fails, do not close the stream: the
    traceback refers to the iterator, too, and would delete it in the midst of reporting the failure.
    """

    def __init__(self, dataset: Iterable[tf.Tensor | tf.distribute.DistributedValues]):
        """Takes a dataset, or a distributed one; reading begins in the background with the first batch."""
        self.iterator: tf.data.Iterator | tf.distribute.DistributedIterator = iter(dataset)
        _open_streams.add(self)

    def close(self) -> None:
        """Lets go of the iterator, which must not be used any more."""
        _open_streams.discard(self)
        last_reference = [self.iterator]
        del self.iterator
        threading.Thread(target=last_reference.clear, name="end of input", daemon=True).start()
