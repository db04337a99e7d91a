"""A folder of files that appears whole or not at all, on disk and on Cloud Storage."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator

from algpt2 import interrupts
from algpt2.storage.files import is_remote, join, naming_errors, of, require_empty, trim
from algpt2.storage.local import TEMPORARY_PREFIX
from algpt2.storage.patience import trying_for

DELETION_SECONDS = 5.0
UNFINISHED_PREFIX = f"{TEMPORARY_PREFIX}folder-"


@contextlib.contextmanager
def writing_folder(folder: str, marker: str) -> Iterator[str]:
    """Yields an empty local folder to fill; its files appear in `folder` when the block ends without an error.

    Nothing stays in `folder` if the block or the moves after it fail. A process that is killed during the moves can
    leave files there, but without the marker. One that is killed before leaves what the next call deletes.

    Args:
      folder: a new or empty folder, on disk or gs://.
      marker: the path, below the folder, of the file that is moved last, without which the folder counts for nothing.

    Raises:
      UserError: the folder cannot be made, or it holds something.
    """
    require_empty(folder)
    folder = trim(folder)
    is_new = not is_remote(folder) and not os.path.lexists(folder)
    place = of(folder).work_folder(join(folder, marker))
    try:
        with naming_errors(folder):
            if not is_remote(folder):
                _delete_unfinished_folders(place)
            filled = tempfile.mkdtemp(prefix=UNFINISHED_PREFIX, dir=place)
            with interrupts.temporary(filled), _naming_output(filled, folder):
                yield filled
                _move_files(filled, folder, marker)
    except BaseException:
        if is_new:
            _delete_empty_folder(folder)
        raise


def _delete_unfinished_folders(place: str) -> None:
    """Deletes what killed processes left in an output folder; it would else be copied with it."""
    for folder in glob.glob(join(glob.escape(place), f"{UNFINISHED_PREFIX}*")):
        shutil.rmtree(folder)


@contextlib.contextmanager
def _naming_output(filled: str, folder: str) -> Iterator[None]:
    """Gives an `OSError` about a file below `filled` the name that the file was to have."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or "")
        if not name.startswith(filled):
            raise
        raise OSError(error.errno, error.strerror, folder + name.removeprefix(filled)) from error


def _move_files(filled: str, folder: str, marker: str) -> None:
    """Moves every file to its place, the marker last, or none."""
    store = of(folder)
    names = [os.path.relpath(file, filled) for file in of(filled).list_files(filled)]
    moved = []
    try:
        for name in sorted(names, key=lambda name: name == marker):
            moved.append(join(folder, name))
            store.work_folder(moved[-1])
            store.publish(join(filled, name), moved[-1])
    except BaseException:
        with trying_for(DELETION_SECONDS):
            for path in reversed(moved):
                with contextlib.suppress(Exception):  # What is seen is why the move failed.
                    store.delete_file(path)
                _delete_empty_folders(os.path.dirname(path), folder)
        raise


def _delete_empty_folders(below: str, folder: str) -> None:
    """Deletes the empty local folders from `below` up to `folder`, which stays."""
    while below != folder and not is_remote(below):
        _delete_empty_folder(below)
        below = os.path.dirname(below)


def _delete_empty_folder(folder: str) -> None:
    with contextlib.suppress(OSError):
        os.rmdir(folder)
