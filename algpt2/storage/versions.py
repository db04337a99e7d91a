"""Which version of a file was looked at, without reading it."""

import os
from collections.abc import Sequence

from algpt2 import storage
from algpt2.storage.parallel import in_parallel

Version = tuple[int, ...]
"""What changes whenever a file is written anew, empty where there is no file."""


def version_of(file: str) -> Version:
    """Returns an object's generation, or the size, the times of the last changes and the inode of a file on a disk."""
    if storage.is_remote(file):
        from algpt2.storage.cloud import CloudStorage  # Google's package takes a second to import.

        generation = CloudStorage().generation(file)
        return (generation,) if generation else ()
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def versions_of(files: Sequence[str], timeout_seconds: float | None = None) -> tuple[Version, ...]:
    """Returns each file's version; several are asked for at a time.

    Raises:
      TimeoutError: they are not all known after so many seconds.
    """
    return in_parallel(version_of, files, timeout_seconds)
