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
    """The operating system keeps it for as long as the process lives."""

    lost = False


@contextlib.contextmanager
def locked(model_dir: str) -> Iterator[Lock]:
    """Holds the run's folder; on a disk the operating system lets go of it however the process ends.

    Cloud Storage has no locks that die with their holder; there a `Lease` stands for one, which can be lost.

    Raises:
      UserError: another process holds it.
    """
    if storage.is_remote(model_dir):
        from algpt2.storage.cloud_lease import Lease  # the package that it needs takes a second to import

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
