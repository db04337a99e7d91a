"""What a cell's process is told to do: a run, as plain values that can be handed from process to process."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from algpt2.config.cadence import Cadence
from algpt2.config.model import GPTConfig
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError, shown
from algpt2.records.record_set import RecordSet, open_record_set
from algpt2.runs.plan import Run
from algpt2.studies.cells import SELECTION, Cell
from algpt2.studies.results import RecordsIdentity
from algpt2.studies.spec import Arm, Spec

# A cell is small and there are many: one validation, at its end, and one checkpoint. Its curves are in metrics.jsonl.
CADENCE_DEFAULTS = {"eval_every_steps": "the cell's last", "keep_checkpoints": 1}
TRACKING_DEFAULTS = {"tensorboard": False}


@dataclasses.dataclass(frozen=True)
class CellOrder:
    """One cell's run.

    Attributes:
      model_config: of the run.
      train_config: of the run.
      cadence: of the run.
      tracking: of the run.
      train_path: folders or shards of its training records.
      val_path: the same of its validation records.
      model_dir: its folder.
      tpu: a TPU, as `--tpu` names it.
      bugs: names of `algpt2.studies.original_bugs` that it is trained with.
    """

    model_config: GPTConfig
    train_config: TrainConfig
    cadence: Cadence
    tracking: TrackingConfig
    train_path: tuple[str, ...]
    val_path: tuple[str, ...]
    model_dir: str
    tpu: str | None
    bugs: tuple[str, ...]

    def run(self, train_records: RecordSet, val_records: RecordSet) -> Run:
        """Returns the run, on records that are open.

        Raises:
          UserError: model, records and schedule do not fit together.
        """
        return Run(
            model_config=self.model_config,
            train_config=self.train_config,
            cadence=self.cadence,
            train_records=train_records,
            val_records=val_records,
            model_dir=self.model_dir,
            tracking=self.tracking,
            optimizer_changes=self.bugs,
        )


@dataclasses.dataclass(frozen=True)
class CellSettings:
    """How every cell of a study is run, beside what its spec says.

    Attributes:
      train_path: folders or shards of the study's training records.
      val_path: the same of the validation records, which all cells share.
      arm_paths: the same of the training records of each name that an arm gives.
      cadence: fields of `Cadence` that were given.
      tracking: how the runs are watched.
      tpu: a TPU, as `--tpu` names it.
    """

    train_path: tuple[str, ...]
    val_path: tuple[str, ...]
    arm_paths: Mapping[str, tuple[str, ...]]
    cadence: Mapping[str, Any]
    tracking: TrackingConfig
    tpu: str | None = None


class Orders:
    """Makes the order of each cell of a study, on records that are opened and checked once.

    Args:
      spec: of the study.
      settings: of all cells.
      output: the study's folder.

    Raises:
      UserError: records that cannot be opened, that an arm names and nobody gives, or the other way round; or an arm
        whose model, records and schedule do not fit together.
    """

    def __init__(self, spec: Spec, settings: CellSettings, output: str):
        self._spec, self._settings, self._output = spec, settings, output
        _require_names_of_records(spec, settings)
        self._opened = functools.cache(open_record_set)
        require_one_tokenizer([self.train_records(arm) for arm in spec.arms], self.val_records())
        for arm in spec.arms:
            self._check(arm)

    def train_records(self, arm: Arm) -> RecordSet:
        """Returns the training records of an arm."""
        return self._opened(self._train_path(arm), "train")

    def val_records(self) -> RecordSet:
        """Returns the validation records, which all arms share."""
        return self._opened(self._settings.val_path, "val")

    def records_identity(self) -> RecordsIdentity:
        """Returns what the records hold."""
        named = {arm.records: self.train_records(arm).fingerprint for arm in self._spec.arms if arm.records}
        return RecordsIdentity(
            train_fingerprint=self._opened(self._settings.train_path, "train").fingerprint,
            val_fingerprint=self.val_records().fingerprint,
            tokenizer_sha256=self.val_records().tokenizer_sha256,
            arm_records=named,
        )

    def order(self, cell: Cell) -> CellOrder:
        """Returns what the process of a cell is told."""
        arm = self._spec.arm(cell.arm)
        train_config = self._spec.train_config(arm, cell.learning_rate, cell.seed)
        cadence = {
            "eval_every_steps": train_config.total_steps,
            "keep_checkpoints": CADENCE_DEFAULTS["keep_checkpoints"],
            **self._settings.cadence,
        }
        return CellOrder(
            model_config=self._spec.model_config(arm),
            train_config=train_config,
            cadence=Cadence(**cadence),
            tracking=self._settings.tracking,
            train_path=self._train_path(arm),
            val_path=self._settings.val_path,
            model_dir=cell.run_folder(self._output),
            tpu=self._settings.tpu,
            bugs=arm.bugs,
        )

    def run(self, cell: Cell) -> Run:
        """Returns the run of a cell; raises `UserError` if its model, records and schedule do not fit together."""
        records = self.train_records(self._spec.arm(cell.arm))
        return self.order(cell).run(records, self.val_records())

    def _check(self, arm: Arm) -> None:
        try:
            self.run(Cell(arm.name, arm.learning_rates[0], 0, SELECTION))
        except UserError as error:
            raise UserError(f"in the arm {arm.name}, {error}") from error

    def _train_path(self, arm: Arm) -> tuple[str, ...]:
        return self._settings.arm_paths[arm.records] if arm.records else self._settings.train_path


def read_arm_records(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the paths of each name in texts such as 'legacy=records/legacy'; a name may stand in several.

    Raises:
      UserError: a text is another.
    """
    paths: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not (name and sign and path):
            raise UserError(f"--arm_records must be NAME=PATH, received {shown(text)}: write it so.")
        paths[name] = (*paths.get(name, ()), path)
    return paths


def require_one_tokenizer(train_records: Sequence[RecordSet], val_records: RecordSet) -> None:
    """Raises `UserError` unless all records were made with one tokenizer, without which no figures compare."""
    for records in train_records:
        if records.tokenizer_sha256 != val_records.tokenizer_sha256:
            raise UserError(
                f"all records of a study must be of one tokenizer, and {records.folder} has "
                f"{records.tokenizer_sha256[:8]}, {val_records.folder} {val_records.tokenizer_sha256[:8]}: make one "
                "of them again."
            )


def _require_names_of_records(spec: Spec, settings: CellSettings) -> None:
    named = {arm.records for arm in spec.arms if arm.records}
    if missing := sorted(named - settings.arm_paths.keys()):
        raise UserError(
            f"records that an arm names must be given, and {missing[0]} is not: add --arm_records {missing[0]}=PATH."
        )
    if unknown := sorted(settings.arm_paths.keys() - named):
        raise UserError(
            f"--arm_records must give records that an arm of the study names, and no arm names {unknown[0]}: leave it "
            "out."
        )
