"""A study under way: which cells there are, and what has come of them."""

import dataclasses
from typing import Any

from algpt2 import storage
from algpt2.checkpoints.folder import CHECKPOINTS
from algpt2.errors import UserError
from algpt2.runs.folder import read_result, read_run
from algpt2.studies.cells import Cell
from algpt2.studies.orders import Orders
from algpt2.studies.results import (
    FAILED,
    FINISHED,
    CellResult,
    StudyRecord,
    failed_result,
    finished_result,
    scores_of,
)
from algpt2.studies.stages import RateChoice, choose_rate, planned_cells

RESULT_KEYS = ("step", "tokens_per_second", "val_loss", "val_bits_per_byte")


@dataclasses.dataclass
class StudyRun:
    """A study's cells and results, on the disk and in memory.

    Attributes:
      output: the study's folder.
      record: which study it is.
      orders: makes what the cells' processes are told.
      arms: the names of the arms whose cells are run.
      results: of the cells that have ended.
      deletes_checkpoints: whether a finished cell's checkpoints are deleted.
      tried: the cells that this command has run, of which a failed one is not run again.
    """

    output: str
    record: StudyRecord
    orders: Orders
    arms: tuple[str, ...]
    results: dict[Cell, CellResult]
    deletes_checkpoints: bool = False
    tried: set[Cell] = dataclasses.field(default_factory=set)

    def rate_choices(self) -> dict[str, RateChoice]:
        """Returns how the rate of each of the arms is chosen by now; a failed cell that is run again has no score."""
        known = {cell: one for cell, one in self.results.items() if self._has_ended(cell)}
        spec = self.record.spec
        return {name: choose_rate(spec, spec.arm(name), scores_of(known)) for name in self.arms}

    def planned(self) -> list[Cell]:
        """Returns every cell of the arms that is planned by now."""
        return planned_cells(self.record.spec, self.rate_choices())

    def left(self) -> list[Cell]:
        """Returns the planned cells that are still to be run."""
        return [cell for cell in self.planned() if not self._has_ended(cell)]

    def take_finished_runs(self) -> None:
        """Takes the results of runs that ended without a result's file, and looks whether all folders are their cells'.

        Raises:
          UserError: a cell's folder holds another run.
        """
        looked_at: set[Cell] = set()
        while new := [cell for cell in self.planned() if cell not in looked_at]:
            for cell in new:
                self._require_own_run(cell)
                if cell not in self.results or self.results[cell].status == FAILED:
                    self.take_finished_run(cell)
                self._delete_checkpoints(cell)
            looked_at.update(new)

    def take_finished_run(self, cell: Cell) -> bool:
        """Takes the result of a cell whose run has ended; returns whether it has."""
        figures = read_result(cell.run_folder(self.output), *RESULT_KEYS)
        if not figures or figures["step"] != self.orders.order(cell).train_config.total_steps:
            return False
        self._keep(finished_result(self.record, cell, figures))
        self._delete_checkpoints(cell)
        return True

    def take_failure(self, cell: Cell, reason: str, diverged: bool) -> None:
        """Takes it that a cell failed."""
        self._keep(failed_result(self.record, cell, reason, diverged))

    def summary(self) -> dict[str, Any]:
        """Returns what has come of the study, as plain JSON values."""
        planned = self.planned()
        ended = [self.results[cell] for cell in planned if cell in self.results]
        failed = [one for one in ended if one.status == FAILED]
        return {
            "output": self.output,
            "planned": len(planned),
            "finished": sum(one.status == FINISHED for one in ended),
            "failed": [{"cell": one.cell.name, "reason": one.reason} for one in failed],
            "rates": {name: dataclasses.asdict(choice) for name, choice in self.rate_choices().items()},
        }

    def _keep(self, result: CellResult) -> None:
        result.write(self.output)
        self.results[result.cell] = result
        self.tried.add(result.cell)

    def _has_ended(self, cell: Cell) -> bool:
        return cell in self.results and (self.results[cell].is_final or cell in self.tried)

    def _require_own_run(self, cell: Cell) -> None:
        run = self.orders.run(cell)
        found = read_run(run.model_dir)
        if found and found.identity != run.identity:
            raise UserError(
                f"a cell's folder must hold the cell's run, and {run.model_dir} holds another: move it away, or name "
                "another --output."
            )

    def _delete_checkpoints(self, cell: Cell) -> None:
        folder = storage.join(cell.run_folder(self.output), CHECKPOINTS)
        is_finished = cell in self.results and self.results[cell].status == FINISHED
        if self.deletes_checkpoints and is_finished and storage.exists(folder):
            storage.of(folder).delete_folder(folder)
