"""A study's folder: `study.json` says whose it is; then the runs in `cells/`, what they came to in `results/`."""

import contextlib
import dataclasses
from collections.abc import Iterator

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage.folder_lock import locked
from algpt2.studies.cells import Cell
from algpt2.studies.results import CellResult, StudyRecord, read_results, read_study_record
from algpt2.studies.spec import Spec


@contextlib.contextmanager
def opened_study(output: str, record: StudyRecord) -> Iterator[dict[Cell, CellResult]]:
    """Holds a study's folder, which becomes this study's if it is new; yields the results that are in it.

    Raises:
      UserError: the folder holds something else, another study, or one that another process runs.
    """
    if read_study_record(output) is None:
        storage.require_empty(output)
        record.write(output)
    with locked(output, work="run a study", flag="--output"):
        # Another process may have begun the folder in the same instant, so only what is read under the lock counts.
        require_same_study(read_study_record(output), record, output)
        yield read_results(output, record.spec)


def results_in(output: str | None, spec: Spec) -> dict[Cell, CellResult]:
    """Returns the results in a study's folder, which need not be there yet.

    Raises:
      UserError: the folder holds another study.
    """
    record = read_study_record(output) if output else None
    if record is None:
        return {}
    require_same_spec(record.spec, spec, output)
    return read_results(output, spec)


def require_same_study(found: StudyRecord, record: StudyRecord, output: str) -> None:
    """Raises `UserError` if the study that a folder holds is another.

    Args:
      found: what the folder holds.
      record: what is to go on there.
      output: the folder.
    """
    require_same_spec(found.spec, record.spec, output)
    if found.records != record.records:
        raise UserError(
            f"--output must be new or hold a study of the same records, and {output} holds one of others: name another."
        )


def require_same_spec(found: Spec, spec: Spec, output: str) -> None:
    """Raises `UserError` if the spec of a folder's study is another; its comments do not matter."""
    names = [field.name for field in dataclasses.fields(spec) if field.compare]
    if others := [name for name in names if getattr(found, name) != getattr(spec, name)]:
        raise UserError(
            f"--output must be new or hold the same study, and {output} holds one of other {' and '.join(others)}: "
            "name another."
        )
