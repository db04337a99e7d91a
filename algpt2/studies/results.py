"""What the cells of a study came to: a small JSON file for each, which can be committed, and the study made of them."""

import dataclasses
import typing
from typing import Any

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.studies.cells import RESULTS_FOLDER, Cell
from algpt2.studies.cost import cell_flops
from algpt2.studies.rehearsed import read_peaks
from algpt2.studies.spec import Spec, parse_spec
from algpt2.studies.stages import RateChoice, Scores, choose_rate, planned_cells

STUDY_NAME = "study.json"
MADE_BY = "ablations/run.py"
FINISHED, FAILED, MISSING = "finished", "failed", "missing"


@dataclasses.dataclass(frozen=True)
class RecordsIdentity:
    """What a study's records hold, wherever they lie: fingerprints of `RecordSet`.

    arm_records: the fingerprint of each name that an arm has in the place of the study's training records.
    """

    train_fingerprint: str
    val_fingerprint: str
    tokenizer_sha256: str
    arm_records: dict[str, str] = dataclasses.field(default_factory=dict)

    def of_arm(self, records: str | None) -> str:
        """Returns the fingerprint of the training records of an arm."""
        return self.train_fingerprint if records is None else self.arm_records[records]


@dataclasses.dataclass(frozen=True)
class CellResult:
    """What one cell came to. What is not known of a cell that has not finished is None.

    Attributes:
      cell: which one.
      status: `finished`, `failed` or `missing`.
      reason: why it failed, in one sentence.
      parameters: of the model, a shared one counted once.
      flops: of the whole training, by `cell_flops`.
      tokens: target tokens that it is trained on.
      tokens_per_second: target tokens.
      val_nats_per_token: loss over the whole validation set after the last step.
      val_bits_per_byte: the same in bits per UTF-8 byte of the text.
      train_fingerprint: of the training records.
      val_fingerprint: of the validation records.
      tokenizer_sha256: of the tokenizer of both.
      rehearsed_peak_bytes: peak memory of a TPU's core, where the step was compiled for one.
      diverged: whether it failed because its loss or gradient was not finite, so that it would fail again.
    """

    cell: Cell
    status: str
    reason: str | None
    parameters: int
    flops: float
    tokens: int
    tokens_per_second: float | None
    val_nats_per_token: float | None
    val_bits_per_byte: float | None
    train_fingerprint: str
    val_fingerprint: str
    tokenizer_sha256: str
    rehearsed_peak_bytes: int | None = None
    diverged: bool = False

    @property
    def is_final(self) -> bool:
        """Whether the same cell would come to the same again."""
        return self.status == FINISHED or self.diverged

    def write(self, output: str) -> None:
        """Writes the result's file into a study's folder, whole or not at all; a rehearsal has a file of its own."""
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name != "rehearsed_peak_bytes"}
        storage.write_text(self.cell.result_path(output), json_files.dumps(fields, indent=2) + "\n")


@dataclasses.dataclass(frozen=True)
class Study:
    """A study and what has come of it, made of `study.json` and the results' files alone.

    Attributes:
      spec: of the study.
      results: of every cell that is planned by now, in the order of the plan; one that has not run yet is `missing`.
      chosen_rates: the rate of each arm whose choice is made.
      rate_choices: how each arm's rate was chosen: which were tried, and whether the best is at the grid's edge.
    """

    spec: Spec
    results: tuple[CellResult, ...]
    chosen_rates: dict[str, float]
    rate_choices: dict[str, RateChoice]


@dataclasses.dataclass(frozen=True)
class StudyRecord:
    """`study.json`: which study a folder holds."""

    spec: Spec
    records: RecordsIdentity

    def write(self, output: str) -> None:
        """Writes the file."""
        fields = {"spec": self.spec.text, "records": dataclasses.asdict(self.records)}
        storage.write_text(storage.join(output, STUDY_NAME), json_files.dumps(fields, indent=2) + "\n")


def read_study_record(output: str) -> StudyRecord | None:
    """Returns which study a folder holds, None if it holds none.

    Raises:
      UserError: its `study.json` is not what `StudyRecord` writes.
    """
    path = storage.join(output, STUDY_NAME)
    if not storage.exists(path):
        return None
    with json_files.refusing(path, f"describe a study as {MADE_BY} writes it", "name another folder"):
        fields = json_files.build(_StudyFields, json_files.load_object(path))
        return StudyRecord(parse_spec(fields.spec), fields.records)


def read_results(output: str, spec: Spec) -> dict[Cell, CellResult]:
    """Returns the results whose files are in a study's folder.

    Raises:
      UserError: a file is not what `CellResult.write` writes, or is of a cell that is none of this study.
    """
    results, arms = {}, {arm.name for arm in spec.arms}
    for path in _result_files(output):
        with json_files.refusing(path, f"be a cell's result as {MADE_BY} writes it", "make it again"):
            result = json_files.build(CellResult, json_files.load_object(path))
        if not path.endswith(f"/{RESULTS_FOLDER}/{result.cell.name}.json") or result.cell.arm not in arms:
            raise UserError(
                f"the results of a study must be of its cells, and {path} is of {result.cell.name}: move it away."
            )
        results[result.cell] = result
    return results


def scores_of(results: typing.Mapping[Cell, CellResult]) -> Scores:
    """Returns what choosing rates needs of results: bits per byte of each finished cell, None of each failed one."""
    return {cell: one.val_bits_per_byte for cell, one in results.items() if one.status in (FINISHED, FAILED)}


def read_study(folder: str) -> Study:
    """Returns a study and its results by the files of a folder, of which the runs need not be there.

    Raises:
      UserError: the folder holds no study, or a file in it is not what a study writes.
    """
    record = read_study_record(folder)
    if record is None:
        raise UserError(
            f"a study's folder must hold {STUDY_NAME}, and {folder} does not: name the --output of {MADE_BY}."
        )
    spec, results, peaks = record.spec, read_results(folder, record.spec), read_peaks(folder)
    choices = {arm.name: choose_rate(spec, arm, scores_of(results)) for arm in spec.arms}
    cells = planned_cells(spec, choices)
    found = [results.get(cell) or missing_result(record, cell) for cell in cells]
    peak_bytes = peaks.peak_bytes if peaks else {}
    return Study(
        spec=spec,
        results=tuple(dataclasses.replace(one, rehearsed_peak_bytes=peak_bytes.get(one.cell.arm)) for one in found),
        chosen_rates={name: one.chosen for name, one in choices.items() if one.chosen is not None},
        rate_choices=choices,
    )


def finished_result(record: StudyRecord, cell: Cell, figures: dict[str, Any]) -> CellResult:
    """Returns the result of a cell whose run has ended: a failed one, if its validation loss is not finite.

    Args:
      record: of the study.
      cell: which one.
      figures: the run's `result.json`.
    """
    if figures["val_bits_per_byte"] is None:
        return failed_result(record, cell, "its validation loss is not finite", diverged=True)
    return dataclasses.replace(
        missing_result(record, cell),
        status=FINISHED,
        tokens_per_second=figures["tokens_per_second"],
        val_nats_per_token=figures["val_loss"],
        val_bits_per_byte=figures["val_bits_per_byte"],
    )


def failed_result(record: StudyRecord, cell: Cell, reason: str, diverged: bool) -> CellResult:
    """Returns the result of a cell that failed, for a reason in one sentence."""
    return dataclasses.replace(missing_result(record, cell), status=FAILED, reason=reason, diverged=diverged)


def missing_result(record: StudyRecord, cell: Cell) -> CellResult:
    """Returns what is known of a cell that has not run."""
    arm = record.spec.arm(cell.arm)
    config = record.spec.model_config(arm)
    return CellResult(
        cell=cell,
        status=MISSING,
        reason=None,
        parameters=config.parameter_count(),
        flops=cell_flops(record.spec, cell),
        tokens=record.spec.tokens,
        tokens_per_second=None,
        val_nats_per_token=None,
        val_bits_per_byte=None,
        train_fingerprint=record.records.of_arm(arm.records),
        val_fingerprint=record.records.val_fingerprint,
        tokenizer_sha256=record.records.tokenizer_sha256,
    )


@dataclasses.dataclass(frozen=True)
class _StudyFields:
    spec: str
    records: RecordsIdentity


def _result_files(output: str) -> list[str]:
    folder = storage.join(output, RESULTS_FOLDER)
    return [path for path in storage.of(folder).list_files(folder) if path.endswith(".json")]
