"""One process at a time works on a run's folder."""

import contextlib
import dataclasses
import fcntl
import os
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from algpt2 import storage
from algpt2.errors import UserError

LOCK_NAME = ".lock"


@dataclasses.dataclass(frozen=True)
class Use:
    """What a folder is held for.

    Attributes:
      work: what is done in it, for the sentence of an error.
      flag: what names it, for the sentence.
    """

    work: str = "train"
    flag: str = "--model_dir"

    def refusal(self, folder: str, holder: str = "another one") -> UserError:
        """Returns the error of a process that finds the folder held."""
        return UserError(
            f"one process at a time may {self.work} in a folder, and {holder} does in {folder}: wait for it, stop it, "
            f"or name another {self.flag}."
        )


class Lock(Protocol):
    """What holds a folder."""

    lost: bool
    """Whether another process has the folder, or had it since."""

    confirmed: bool
    """Whether no other process can have the folder by now."""


class DiskLock:
    """A lock that the operating system keeps for as long as the process lives, so that it is never lost."""

    lost = False
    confirmed = True


@contextlib.contextmanager
def locked(folder: str, work: str = Use.work, flag: str = Use.flag) -> Iterator[Lock]:
    """Holds a folder while the block runs, and yields what tells whether it is still held.

    On a disk, the operating system lets go of the folder however the process ends. Cloud Storage has no lock that dies
    with its holder; there a `Lease` stands for one, and it can be lost.

    Args:
      folder: of a run, or of what `work` says.
      work: what is done in it, for the sentence of an error.
      flag: what names it, for the sentence.

    Raises:
      UserError: another process holds it, or nothing can be written there.
    """
    use = Use(work, flag)
    if storage.is_remote(folder):
        from algpt2.storage.cloud_lease import Lease  # Google's package takes a second to import.

        with Lease(storage.join(folder, LOCK_NAME), use=use) as lease:
            yield lease
        return
    with _opened(os.path.join(folder, LOCK_NAME), flag) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise use.refusal(folder) from error
        yield DiskLock()


def _opened(path: str, flag: str) -> BinaryIO:
    """Opens the file of a lock, whose content does not matter; a pipe in its place is an error, and not waited for."""
    try:
        return open(path, "ab", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK, 0o666))
    except OSError as error:
        raise UserError(
            f"{flag} must be a folder in which {path} can be written, and it cannot ({error.strerror}): "
            "name another or permit it."
        ) from error
