"""Files on a local or mounted disk, as `storage.Storage` asks for them.

Only a regular file is ever read or replaced. A pipe could block for ever, and to put a file in the place of a device
would take it away from every other program. What a symbolic link leads to is read and replaced, and the link stays.
"""

import errno
import glob
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from algpt2.errors import UserError

TEMPORARY_PREFIX = ".tmp-"
FILE, FOLDER, LINK_TO_NOTHING = "a file", "a folder", "a symbolic link that leads nowhere"
KIND_OF_TYPE = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def nearest_existing(path: str) -> str:
    """Returns the path itself, or the nearest folder above it that exists."""
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    return place


def room_bytes(folder: str) -> int:
    """Returns how many bytes a folder's files may have: what is free on its disk, and what the folder holds already."""
    held = sum(map(os.path.getsize, LocalStorage().list_files(folder)))
    return shutil.disk_usage(nearest_existing(folder)).free + held


class LocalStorage:
    """Files on a local or mounted disk."""

    def exists(self, path: str) -> bool:
        if not os.path.isdir(path):
            return os.path.lexists(path)
        # Files that a killed process left unfinished do not count.
        return any(not name.startswith(TEMPORARY_PREFIX) for name in os.listdir(path))

    def is_file(self, path: str) -> bool:
        return os.path.isfile(path)

    def kind(self, path: str) -> str | None:
        try:
            return KIND_OF_TYPE.get(stat.S_IFMT(os.stat(path).st_mode), "no file")
        except OSError:
            return LINK_TO_NOTHING if os.path.islink(path) else None

    def size_bytes(self, path: str) -> int:
        return os.path.getsize(path)

    def crc32c(self, path: str) -> str:
        checksum = google_crc32c.Checksum()
        with self.open_read(path) as stream:
            while block := stream.read(1 << 20):
                checksum.update(block)
        return checksum.digest().hex()

    def list_files(self, folder: str) -> list[str]:
        return sorted(str(file) for file in Path(folder).rglob("*") if file.is_file())

    def match(self, pattern: str) -> list[str]:
        return sorted(glob.glob(pattern, recursive=True))

    def open_read(self, path: str) -> BinaryIO:
        kind = self.kind(path)
        if kind not in (None, FILE, LINK_TO_NOTHING) and not _is_unnamed_pipe(path):
            raise UserError(f"what is read must be a file, and {path} is {kind}: name a file.")
        return open(path, "rb")

    def publish(self, local_file: str, path: str) -> None:
        target = self._replaceable(path)
        os.chmod(local_file, 0o666 & ~_umask())
        with open(local_file, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(local_file, target)
        folder = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(folder)  # Otherwise a power cut could keep a marker and lose the file that it vouches for.
        finally:
            os.close(folder)

    def delete_file(self, path: str) -> None:
        os.unlink(path)

    def delete_folder(self, folder: str) -> None:
        shutil.rmtree(folder)

    def move_folder(self, source: str, target: str) -> None:
        if os.path.lexists(target):  # On Linux, a rename would replace an empty folder.
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        if not os.path.isdir(source):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        os.makedirs(os.path.dirname(target.rstrip("/")) or ".", exist_ok=True)
        os.rename(source, target)

    def work_folder(self, path: str) -> str:
        """Returns the target's own folder, because a rename is atomic only within one file system."""
        folder = os.path.dirname(self._replaceable(path))
        os.makedirs(folder, exist_ok=True)
        return folder

    def require_writable(self, folder: str) -> None:
        place = nearest_existing(folder)
        if not os.path.isdir(place):
            raise UserError(f"the output folder must lie in folders, and {place} is not a folder: name another.")
        if not os.access(place, os.W_OK | os.X_OK):
            raise UserError(f"the output folder must be writable, and {place} is not: name another or permit it.")

    def _replaceable(self, path: str) -> str:
        """Returns the place of a file for `path`, which a symbolic link may put elsewhere; it need not exist.

        Raises:
          UserError: what is there is no regular file.
        """
        target = os.path.realpath(path)
        kind = FOLDER if path.endswith("/") else self.kind(path if os.path.exists(path) else target)
        if kind not in (None, FILE):
            raise UserError(f"a file may only be new or replace a file, and {path!r} is {kind}: name another.")
        return target


def _is_unnamed_pipe(path: str) -> bool:
    """Returns whether it is a pipe that a shell has made and opened for this process, as for `<(command)`."""
    return not os.path.lexists(os.path.realpath(path))


def _umask() -> int:
    """Returns the permissions that `open` would withhold; `mkstemp` makes files that only their owner may read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
