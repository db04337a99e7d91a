"""A study of two arms, for the records of the fixture `records_folder`, and results of its cells."""

from places import REPOSITORY

from algpt2.studies.results import CellResult, RecordsIdentity, StudyRecord, finished_result, missing_result
from algpt2.studies.spec import parse_spec

SPEC_PATH = REPOSITORY / "tests" / "helpers" / "tiny_study.toml"
SPEC = SPEC_PATH.read_text(encoding="utf-8")
# Each arm chooses among two rates, and then confirms.
SELECTING = SPEC.replace("[1e-2]", "[1e-3, 3e-3]\nselection_seeds = [1, 2]")
RECORDS = RecordsIdentity("train" * 8, "val" * 8, "tokenizer" * 8)


def record_of(text=SPEC):
    """Returns which study a text is, on records that nobody reads."""
    return StudyRecord(parse_spec(text), RECORDS)


def finished(cell, bits_per_byte, record=None) -> CellResult:
    """Returns the result of a cell that has finished."""
    figures = {"tokens_per_second": 1000.0, "val_loss": 2 * bits_per_byte, "val_bits_per_byte": bits_per_byte}
    return finished_result(record or record_of(), cell, figures)


def missing(cell, record=None) -> CellResult:
    """Returns the result of a cell that has not run."""
    return missing_result(record or record_of(), cell)
