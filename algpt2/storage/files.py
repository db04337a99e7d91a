"""Files on disk and objects on Google Cloud Storage (`gs://bucket/name`) behind one small interface.

Every write is atomic: a reader sees the whole file or none. TensorFlow's own client reads TFRecords on `gs://` in the
input pipeline; everything else goes through the package `google-cloud-storage`, which retries requests and compares
checksums (docs/design/storage.md).
"""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from algpt2 import interrupts
from algpt2.errors import UserError
from algpt2.storage.local import FOLDER, TEMPORARY_PREFIX, LocalStorage
from algpt2.storage.parallel import in_parallel

REMOTE_PREFIX = "gs://"
PATTERN_MARKS = "*?["
COPY_BLOCK_BYTES = 1 << 20


class Storage(Protocol):
    """What a kind of storage must do. Paths are whole paths, `gs://` included."""

    def exists(self, path: str) -> bool:
        """Returns whether anything but an empty folder is at `path`; a pipe or a link that leads nowhere counts."""

    def is_file(self, path: str) -> bool:
        """Returns whether one file is at `path`."""

    def kind(self, path: str) -> str | None:
        """Returns what is at `path`, links followed, as words such as "a folder"; None if nothing is."""

    def size_bytes(self, path: str) -> int:
        """Returns the size of one file."""

    def crc32c(self, path: str) -> str:
        """Returns the CRC32C of one file as eight hexadecimal digits."""

    def list_files(self, folder: str) -> list[str]:
        """Returns every file below `folder`, recursively, sorted."""

    def match(self, pattern: str) -> list[str]:
        """Returns the files and folders that match a shell pattern, sorted."""

    def open_read(self, path: str) -> BinaryIO:
        """Returns a binary stream of one file.

        Raises:
          FileNotFoundError: nothing is there.
          UserError: something is there that is no file, as a folder or a named pipe.
        """

    def publish(self, local_file: str, path: str) -> None:
        """Moves a finished local file to `path` in one atomic operation, replacing the file that was there.

        Raises:
          UserError: what is there is no file.
        """

    def delete_file(self, path: str) -> None:
        """Deletes one file. On Cloud Storage it does no harm that there is none."""

    def delete_folder(self, folder: str) -> None:
        """Deletes a folder and everything below it."""

    def move_folder(self, source: str, target: str) -> None:
        """Moves a folder and everything below it to `target`, whose parent need not exist.

        On Cloud Storage every file is copied before the first one is deleted: whatever cuts a move off, one of the two
        folders is whole.

        Raises:
          FileNotFoundError: there is no `source`.
          FileExistsError: something is at `target`.
        """

    def work_folder(self, path: str) -> str:
        """Returns a local folder in which to prepare a file meant for `path`; raises what `publish` would raise."""

    def require_writable(self, folder: str) -> None:
        """Raises `UserError` if files below `folder`, which may not exist yet, cannot be written."""


def is_remote(path: str) -> bool:
    """Returns whether `path` lies on Google Cloud Storage."""
    return path.startswith(REMOTE_PREFIX)


def of(path: str) -> Storage:
    """Returns the storage that `path` lies on."""
    if is_remote(path):
        from algpt2.storage.cloud import CloudStorage  # Google's package takes a second to import.

        return CloudStorage()
    return LocalStorage()


def trim(path: str) -> str:
    """Returns a path without the slashes at its end, but for those without which it would be another."""
    start = REMOTE_PREFIX if is_remote(path) else path[:1]
    return start + path.removeprefix(start).rstrip("/")


def join(folder: str, *names: str) -> str:
    """Returns the path of a file below a folder, on either storage."""
    return "/".join([trim(folder), *names])


def base_name(path: str) -> str:
    """Returns the last part of a path."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def parent(path: str) -> str:
    """Returns the folder that holds a path."""
    return path.rsplit("/", 1)[0] if is_remote(path) else (os.path.dirname(path) or ".")


def exists(path: str) -> bool:
    """Returns whether anything but an empty folder is at `path`; a pipe or a link that leads nowhere counts."""
    return of(path).exists(path)


def is_pattern(path: str) -> bool:
    """Returns whether a path is a shell pattern: it has a mark of one in it, and nothing is there as it is written."""
    return _has_marks(path) and not exists(path)


def expand(path: str) -> list[str]:
    """Returns the files that a file, a folder (recursively) or a shell pattern names, sorted.

    A name that exists as it is written is no pattern, and neither are the folders at a pattern's beginning that do:
    `a[1]/*` names what is in the folder `a[1]`, if there is one.

    Raises:
      UserError: nothing is there, or what is there is neither a file nor a folder.
    """
    starts = of(path).match(_taking_folders_as_written(path)) if is_pattern(path) else [path]
    files = {file for found in in_parallel(_files_at, starts) for file in found}
    if not files:
        raise _nothing_to_read("nothing", path)
    return sorted(files)


def _files_at(path: str) -> list[str]:
    """Returns a file, or the files in a folder; raises `UserError` if something else is there."""
    storage = of(path)
    if storage.is_file(path):
        return [path]
    files = storage.list_files(path)
    if not files and (kind := storage.kind(path)) not in (None, FOLDER):
        raise _nothing_to_read(kind, path)
    return files


def _nothing_to_read(found: str, path: str) -> UserError:
    return UserError(f"an input path must name an existing file, folder or pattern, and {found} is at {path!r}.")


def _has_marks(path: str) -> bool:
    return any(mark in path for mark in PATTERN_MARKS)


def _taking_folders_as_written(pattern: str) -> str:
    """Returns a pattern in which the marks are escaped of the longest folder at its beginning that exists."""
    parts = pattern.split("/")
    folders = ["/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
    folder = next((folder for folder in folders if _has_marks(folder) and exists(folder)), "")
    return glob.escape(folder) + pattern.removeprefix(folder)


def read_bytes(path: str) -> bytes:
    """Returns a whole file."""
    with of(path).open_read(path) as stream:
        return stream.read()


def read_text(path: str) -> str:
    """Returns a whole UTF-8 file."""
    return read_bytes(path).decode("utf-8")


def write_bytes(path: str, data: bytes) -> None:
    """Writes a whole file atomically."""
    with writing(path) as local_file:
        Path(local_file).write_bytes(data)


def write_text(path: str, text: str) -> None:
    """Writes a whole UTF-8 file atomically."""
    write_bytes(path, text.encode("utf-8"))


@contextlib.contextmanager
def writing(path: str) -> Iterator[str]:
    """Yields a local file name to fill; it appears at `path`, whole, when the block ends without an error.

    An `OSError` in the block that names no file, as a full disk's does not, or the local one, gets the name `path`.

    Raises:
      UserError: what is at `path` is no file, so that it is not replaced.
    """
    storage = of(path)
    with naming_errors(path):
        descriptor, local_file = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=storage.work_folder(path))
        os.close(descriptor)
        with interrupts.temporary(local_file):
            yield local_file
            storage.publish(local_file, path)


@contextlib.contextmanager
def naming_errors(path: str) -> Iterator[None]:
    """Gives an `OSError` that names no file, or an unfinished one, the name `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and not base_name(str(error.filename)).startswith(TEMPORARY_PREFIX):
            raise
        if error.errno is None:
            raise failed_write(path, str(error)) from error
        raise OSError(error.errno, error.strerror, path) from error


def failed_write(path: str, reason: str) -> OSError:
    """Returns the error of a file that cannot be written, in the system's words if the reason has them in it.

    Args:
      path: of the file.
      reason: what a library says, which is all that some of them give.
    """
    known = [number for number in errno.errorcode if os.strerror(number) in reason]
    if not known:
        return OSError(errno.EIO, reason, path)
    number = max(known, key=lambda number: len(os.strerror(number)))
    return OSError(number, os.strerror(number), path)


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """Yields the name of a local file with the content of `path`; a local path is yielded as it is."""
    if not is_remote(path):
        yield path
        return
    descriptor, copy = tempfile.mkstemp(prefix="algpt2-")
    with interrupts.temporary(copy):
        with os.fdopen(descriptor, "wb") as copied, of(path).open_read(path) as stream:
            shutil.copyfileobj(stream, copied, COPY_BLOCK_BYTES)
        yield copy


class LocalCopies:
    """Local files with the content of others: each one is copied once.

    Python deletes the copies when it deletes this object, or else when the process ends.
    """

    def __init__(self) -> None:
        self._copies: dict[str, str] = {}
        self._folder: str | None = None

    def file(self, path: str) -> str:
        """Returns the path of a local file with the content of `path`, which is `path` itself on a disk.

        Raises:
          FileNotFoundError: there is no such object on Cloud Storage.
        """
        if not is_remote(path):
            return path
        if path not in self._copies:
            self._copies[path] = self._download(path)
        return self._copies[path]

    def _download(self, path: str) -> str:
        with of(path).open_read(path) as stream:
            if self._folder is None:
                temporary = contextlib.ExitStack()
                self._folder = tempfile.mkdtemp(prefix="algpt2-")
                temporary.enter_context(interrupts.temporary(self._folder))
                weakref.finalize(self, temporary.close)
            copy = join(self._folder, str(len(self._copies)))
            with naming_errors(copy), open(copy, "wb") as copied:
                shutil.copyfileobj(stream, copied, COPY_BLOCK_BYTES)
        return copy


def delete_temporary_files(folder: str) -> None:
    """Deletes the unfinished files that killed processes left in a folder itself; no other process may write there."""
    if is_remote(folder):
        return  # files meant for Cloud Storage are prepared in the machine's own temporary folder
    for path in glob.glob(join(glob.escape(folder), f"{TEMPORARY_PREFIX}*")):
        if not os.path.isdir(path):
            os.unlink(path)


def require_empty(folder: str) -> None:
    """Raises `UserError` unless an output folder can be made and holds nothing yet."""
    if not folder:
        raise UserError("the output folder must have a name, received '': name one.")
    if exists(folder):
        kind = of(folder).kind(folder)
        found = "already holds files" if kind == FOLDER else f"is {kind}"
        raise UserError(f"the output folder must be new or empty, and {folder} {found}: name another.")
    of(folder).require_writable(folder)


def write_hashed(path: str, data: bytes) -> str:
    """Writes a file; returns its SHA-256 in hexadecimal."""
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: str) -> str:
    """Returns a file's SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    with of(path).open_read(path) as stream:
        while block := stream.read(COPY_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
