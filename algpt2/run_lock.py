"""One process at a time works on a run's folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from algpt2 import storage
from algpt2.errors import UserError

LOCK_NAME = ".lock"


@contextlib.contextmanager
def locked(model_dir: str) -> Iterator[None]:
    """Holds the run's folder; the operating system lets go of it however the process ends.

    Only on a disk: Cloud Storage has no locks that die with their holder, so there two runs in one folder are not
    noticed.

    Raises:
      UserError: another process holds it.
    """
    if storage.is_remote(model_dir):
        yield
        return
    with open(os.path.join(model_dir, LOCK_NAME), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"one process at a time may train in a folder, and another one does in {model_dir}: wait for it, stop "
                "it, or name another --model_dir."
            ) from error
        yield
