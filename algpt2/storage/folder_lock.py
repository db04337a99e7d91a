"""One process at a time works on a run's folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from typing import Protocol

from algpt2 import storage
from algpt2.errors import UserError

LOCK_NAME = ".lock"


class Lock(Protocol):
    """What holds a folder."""

    lost: bool
    """Whether another process may have the folder by now."""


class DiskLock:
    """A lock that the operating system keeps for as long as the process lives, so that it is never lost."""

    lost = False


@contextlib.contextmanager
def locked(model_dir: str) -> Iterator[Lock]:
    """Holds the run's folder while the block runs, and yields what tells whether it is still held.

    On a disk, the operating system lets go of the folder however the process ends. Cloud Storage has no lock that dies
    with its holder; there a `Lease` stands for one, and it can be lost.

    Raises:
      UserError: another process holds it.
    """
    if storage.is_remote(model_dir):
        from algpt2.storage.cloud_lease import Lease  # Google's package takes a second to import.

        with Lease(storage.join(model_dir, LOCK_NAME)) as lease:
            yield lease
        return
    with open(os.path.join(model_dir, LOCK_NAME), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"one process at a time may train in a folder, and another one does in {model_dir}: wait for it, stop "
                "it, or name another --model_dir."
            ) from error
        yield DiskLock()
