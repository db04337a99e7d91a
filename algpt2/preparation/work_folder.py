"""What a preparation has done so far, in a folder inside its output, so that the same command goes on where it was.

    output/unfinished/command.json                      what was asked for
    output/unfinished/input.json                        the input's files, with that by which a change is told
    output/unfinished/3f09c2....json                    a piece of the input is encoded; written after its files:
    output/unfinished/3f09c2...-train-000.documents     encoded documents, sorted
    output/unfinished/b71e3d...-train-00003.json        a shard of these pieces is in `output`

The folder is deleted after the manifest is written.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, TypeVar

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.preparation.encoding import EncodedPiece
from algpt2.preparation.plan import Command, Part, Plan
from algpt2.records.manifest import MANIFEST_NAME, Shard
from algpt2.storage import json_files
from algpt2.storage.folder_lock import LOCK_NAME, locked
from algpt2.text.faults import InputFault
from algpt2.text.read_parts import changed

WORK_FOLDER = "unfinished"
COMMAND_NAME = "command.json"
INPUT_NAME = "input.json"

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class InputVersions:
    """The files of an input, each with that by which a change is told; JSON on disk.

    Attributes:
      of_many_machines: whether that is the size alone.
      versions: by the files' paths.
    """

    of_many_machines: bool
    versions: dict[str, tuple[int, ...]]


class WorkFolder:
    """The folder of one preparation's unfinished work.

    Attributes:
      path: of the folder.
    """

    def __init__(self, output: str):
        self._output = output
        self.path = storage.join(output, WORK_FOLDER)
        # What has been read once: a piece's name is a hash of all that its file depends on, so it never changes.
        self._pieces: dict[str, EncodedPiece] = {}

    def is_begun(self) -> bool:
        """Returns whether the folder is there, and says whose work is in it."""
        return storage.exists(_command_path(self._output))

    def is_sealed(self) -> bool:
        """Returns whether the manifest is written, so that only the unfinished work is left to delete."""
        return storage.exists(storage.join(self._output, MANIFEST_NAME))

    @contextlib.contextmanager
    def holding_input(self, plan: Plan) -> Iterator[None]:
        """Does the block with the input that the work was begun with, and lets a file change in which a fault is found.

        So the same command takes what that file is mended to.

        Raises:
          UserError: a file of the input is another than when the work began, or the block says so.
        """
        self._require_same_input(plan)
        try:
            yield
        except InputFault as fault:
            self._forget(fault.file)
            raise

    def encoded_piece(self, name: str) -> EncodedPiece | None:
        """Returns what a piece of the input came to, by its name, or None if it is not encoded yet."""
        if name not in self._pieces and (piece := self._read(EncodedPiece, f"{name}.json")):
            self._pieces[name] = piece
        return self._pieces.get(name)

    def put_encoded_piece(self, name: str, piece: EncodedPiece) -> None:
        """Says that a piece is encoded; call it after its files are written."""
        self._write(f"{name}.json", piece)

    def shard(self, plan: Plan, split: str, index: int) -> Shard | None:
        """Returns the entry of a shard of a plan, or None if it is not written yet."""
        return self._read(Shard, _shard_name(plan, split, index))

    def put_shard(self, plan: Plan, split: str, index: int, shard: Shard) -> None:
        """Says that a shard of a plan is written; call it after that."""
        self._write(_shard_name(plan, split, index), shard)

    def delete_shard(self, plan: Plan, split: str, index: int) -> None:
        """Says that a shard of a plan is not written, if it was."""
        path = storage.join(self.path, _shard_name(plan, split, index))
        with contextlib.suppress(FileNotFoundError):
            storage.of(path).delete_file(path)

    def delete(self) -> None:
        """Deletes the folder; call it after the manifest is written, or when nothing in it is worth keeping.

        What says whose work it is goes last, so that the same command ends this too if it is killed here.
        """
        store, command = storage.of(self.path), _command_path(self._output)
        for file in store.list_files(self.path):
            if file != command:
                store.delete_file(file)
        with contextlib.suppress(FileNotFoundError):
            store.delete_file(storage.join(self._output, LOCK_NAME))
        store.delete_folder(self.path)
        if not storage.is_remote(self._output):
            with contextlib.suppress(OSError):  # It holds the records.
                os.rmdir(self._output)

    def _require_same_input(self, plan: Plan) -> None:
        """Keeps which files the input is; raises `UserError` with the first that is another than when it was kept."""
        now = InputVersions(plan.of_many_machines, plan.told_versions)
        before = self._read(InputVersions, INPUT_NAME)
        if before and before.of_many_machines == now.of_many_machines:
            for file, version in before.versions.items():
                if now.versions.get(file) != version:
                    raise changed(file)
        if now != before:
            self._write(INPUT_NAME, now)

    def _forget(self, file: str) -> None:
        before = self._read(InputVersions, INPUT_NAME)
        if before and file in before.versions:
            versions = {name: version for name, version in before.versions.items() if name != file}
            self._write(INPUT_NAME, dataclasses.replace(before, versions=versions))

    def _read(self, kind: type[T], name: str) -> T | None:
        path = storage.join(self.path, name)
        if not storage.exists(path):
            return None
        with json_files.refusing(path, "be as make_tfrecords.py wrote it", "delete the output folder"):
            return json_files.build(kind, json_files.load_object(path))

    def _write(self, name: str, value: Any) -> None:
        storage.write_text(storage.join(self.path, name), json_files.dumps(dataclasses.asdict(value)) + "\n")


def require_new_or_unfinished(output: str) -> None:
    """Raises `UserError` unless an output folder can be made and holds nothing yet, or unfinished work alone."""
    if not storage.exists(_command_path(output)) and not _has_barely_begun(output):
        storage.require_empty(output)


@contextlib.contextmanager
def opened_work(output: str, plan: Plan) -> Iterator[WorkFolder]:
    """Holds an output folder for a preparation, which is begun or gone on with, and yields its unfinished work.

    Raises:
      UserError: the folder holds something else, another command's work, or work that another process does; or a file
        of the input changed since the work began.
    """
    _begin(output, plan.command)
    with locked(output, work="make records", flag="--output"):
        require_new_or_unfinished(output)
        for folder in (output, storage.join(output, WORK_FOLDER)):
            storage.delete_temporary_files(folder)
        work = WorkFolder(output)
        with contextlib.nullcontext() if work.is_sealed() else work.holding_input(plan):
            yield work


@contextlib.contextmanager
def opened_part(output: str, plan: Plan, part: Part) -> Iterator[WorkFolder]:
    """Holds one part of a preparation in an output folder that other machines work in as well.

    Args:
      output: the folder.
      plan: of all parts.
      part: this one.

    Raises:
      UserError: the folder holds something else, another command's work, or this part, which another process does; or a
        file of the input changed since the work began.
    """
    _begin(output, plan.command)
    folder = storage.join(output, WORK_FOLDER, f"part-{part.index:05d}-of-{part.count:05d}")
    storage.write_text(storage.join(folder, "part.json"), json_files.dumps(dataclasses.asdict(part)) + "\n")
    with locked(folder, work="make a part of records", flag="--shard"):
        work = WorkFolder(output)
        with work.holding_input(plan):
            yield work


def _begin(output: str, command: Command) -> None:
    """Says whose work it is in a new folder, or raises `UserError` for another command's."""
    require_new_or_unfinished(output)
    path = _command_path(output)
    if not storage.exists(path):
        storage.write_text(path, json_files.dumps(dataclasses.asdict(command)) + "\n")
    _require_same_command(path, command, output)


def _require_same_command(path: str, command: Command, output: str) -> None:
    with json_files.refusing(path, "be a command as make_tfrecords.py wrote it", f"delete {output} and begin again"):
        found = json_files.build(Command, json_files.load_object(path))
    names = [one.name for one in dataclasses.fields(Command) if getattr(found, one.name) != getattr(command, one.name)]
    if names:
        raise UserError(
            f"{output} holds the unfinished work of another command, whose {' and '.join(names)} differ: name another "
            "--output, or delete it."
        )


def _has_barely_begun(output: str) -> bool:
    """Returns whether a kill, before the first file was there, left an empty work folder in an output folder."""
    work_folder = storage.join(output, WORK_FOLDER)
    return os.path.isdir(work_folder) and os.listdir(output) == [WORK_FOLDER] and not storage.exists(work_folder)


def _command_path(output: str) -> str:
    return storage.join(output, WORK_FOLDER, COMMAND_NAME)


def _shard_name(plan: Plan, split: str, index: int) -> str:
    return f"{plan.name}-{split}-{index:05d}.json"
