"""The iterator over a run's batches, which can be let go of without waiting for what it reads."""

import threading
from collections.abc import Iterable

from algpt2.training.input_progress import Batch, Batches


class InputStream:
    """Global batches, one after the other; `iterator` is what gives them."""

    def __init__(self, dataset: Iterable[Batch]):
        """Takes a dataset, or a distributed one; reading begins in the background with the first batch."""
        self.iterator: Batches = iter(dataset)

    def close(self) -> None:
        """Lets go of the iterator, which must not be used any more.

        A thread of its own deletes it: deleting waits for reads under way, which TensorFlow tries again for minutes
        while a service is away, and the run's last checkpoint and result need no more batches.
        """
        last_reference = [self.iterator]
        del self.iterator
        threading.Thread(target=last_reference.clear, name="end of input", daemon=True).start()
