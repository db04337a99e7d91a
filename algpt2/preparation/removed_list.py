"""The list of what is left out of the input: a JSON line for each, in the order of the input."""

import bisect
import heapq
import itertools
from collections.abc import Iterator

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.preparation.encoding import TRAIN, VAL
from algpt2.preparation.plan import Plan
from algpt2.preparation.removed_entries import REASONS, read_removed
from algpt2.preparation.work_folder import WorkFolder
from algpt2.progress import progress_bar
from algpt2.storage import json_files


def require_new(path: str) -> None:
    """Raises `UserError` unless a list can be written at a path, and nothing is there."""
    if not path or path.endswith("/"):
        raise UserError(f"removed_documents must be a file's name, received {path!r}: name one.")
    if (kind := storage.of(path).kind(path)) is not None:
        raise UserError(f"removed_documents must be a new file, and {kind} is at {path}: name another.")
    storage.of(path).require_writable(storage.parent(path))


def write_list(path: str, plan: Plan, folder: WorkFolder) -> None:
    """Writes the list of a preparation's removed entries, whole or not at all; memory does not grow with it.

    Raises:
      UserError: something has come to be at the path.
      OSError: it cannot be written, for example because the disk is full.
    """
    require_new(path)
    places, copies = _Places(plan, folder), storage.LocalCopies()
    runs = [_of_pieces(plan, folder, copies), *_of_bins(plan, folder, copies)]
    with (
        storage.writing(path) as local_file,
        open(local_file, "w", encoding="utf-8") as stream,
        progress_bar("listing what is left out", "document") as progress,
    ):
        for piece, entry, reason in heapq.merge(*runs):
            file, number = places.of(piece, entry)
            stream.write(json_files.dumps({"file": file, "document": number, "reason": REASONS[reason]}) + "\n")
            progress.update(1)


class _Places:
    """In which file each entry is, and which of its documents it is, from 1."""

    def __init__(self, plan: Plan, folder: WorkFolder):
        pieces = [named.piece for named in plan.pieces]
        counts = [folder.encoded_piece(named.name).entries for named in plan.pieces]
        self._files = [[file.path for file in piece.files] for piece in pieces]
        self._ends = [list(itertools.accumulate(of_piece)) for of_piece in counts]
        self._before: list[int] = []
        before = 0
        for piece, ends in zip(pieces, self._ends, strict=True):
            if piece.first_byte == 0:  # Else it goes on with the file of the piece before.
                before = 0
            self._before.append(before)
            before += ends[-1]

    def of(self, piece: int, entry: int) -> tuple[str, int]:
        ends = self._ends[piece]
        file = bisect.bisect_right(ends, entry)
        first = ends[file - 1] if file else 0
        return self._files[piece][file], self._before[piece] + entry - first + 1


def _of_pieces(plan: Plan, folder: WorkFolder, copies: storage.LocalCopies) -> Iterator[tuple[int, int, int]]:
    """Yields what was left out when pieces were encoded."""
    for number, named in enumerate(plan.pieces):
        if folder.encoded_piece(named.name).removed:
            yield from read_removed(copies.file(folder.removed_of_piece(named.name)), number)


def _of_bins(plan: Plan, folder: WorkFolder, copies: storage.LocalCopies) -> Iterator[Iterator[tuple[int, int, int]]]:
    """Yields what was left out of each range of bins, when duplicates were looked for."""
    for split, (first_bin, _) in itertools.product((TRAIN, VAL), plan.layout.ranges()):
        path = folder.removed_of_bins(plan, split, first_bin)
        if storage.exists(path):
            yield read_removed(copies.file(path))
