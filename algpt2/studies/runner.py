"""Runs a study: its cells one after the other, or several at a time, each in a process of its own."""

import contextlib
import dataclasses
import os
import selectors
import signal
from collections.abc import Iterable, Iterator
from typing import Any

from absl import logging

from algpt2 import interrupts, storage
from algpt2.errors import Interrupted, UserError
from algpt2.progress import progress_bar
from algpt2.runs.folder import read_result, read_run
from algpt2.storage.folder_lock import locked
from algpt2.studies.cells import Cell
from algpt2.studies.children import Child, Outcome
from algpt2.studies.orders import Orders
from algpt2.studies.results import (
    FAILED,
    FINISHED,
    CellResult,
    StudyRecord,
    finished_result,
    read_results,
    read_study_record,
    result_without_figures,
    scores_of,
)
from algpt2.studies.stages import RateChoice, choose_rate, planned_cells

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS_BETWEEN_LOOKS = 1.0
RESULT_KEYS = ("step", "tokens_per_second", "val_loss", "val_bits_per_byte")


@dataclasses.dataclass
class StudyRun:
    """A study under way: which cells there are, what came of them, and which are running.

    Attributes:
      output: the study's folder.
      record: which study it is.
      orders: makes what the cells' processes are told.
      arms: the names of the arms whose cells are run.
      results: of the cells that have ended.
      tried: the cells that this command has run, of which a failed one is not run again.
    """

    output: str
    record: StudyRecord
    orders: Orders
    arms: tuple[str, ...]
    results: dict[Cell, CellResult]
    tried: set[Cell] = dataclasses.field(default_factory=set)

    def rate_choices(self) -> dict[str, RateChoice]:
        """Returns how the rate of each arm is chosen by now; a failed cell that is to be run again has no score."""
        known = {cell: one for cell, one in self.results.items() if one.is_final or cell in self.tried}
        spec = self.record.spec
        return {arm.name: choose_rate(spec, arm, scores_of(known)) for arm in spec.arms}

    def planned(self) -> list[Cell]:
        """Returns every cell of the chosen arms that is planned by now."""
        return [cell for cell in planned_cells(self.record.spec, self.rate_choices()) if cell.arm in self.arms]

    def left(self) -> list[Cell]:
        """Returns the planned cells that have not ended."""
        return [cell for cell in self.planned() if cell not in self.tried and not self._has_final_result(cell)]

    def add(self, result: CellResult) -> None:
        """Keeps what a cell came to, and writes its file."""
        result.write(self.output)
        self.results[result.cell] = result
        self.tried.add(result.cell)

    def take_finished_runs(self) -> None:
        """Takes the results of runs that ended without a result's file; checks that every run's folder is its cell's.

        Raises:
          UserError: a folder holds another run.
        """
        looked_at: set[Cell] = set()
        while new := [cell for cell in self.planned() if cell not in looked_at]:
            for cell in new:
                self._take_finished_run(cell)
            looked_at.update(new)

    def _take_finished_run(self, cell: Cell) -> None:
        run = self.orders.run(cell)
        found = read_run(run.model_dir)
        if found is None:
            return
        if found.identity != run.identity:
            raise UserError(
                f"a cell's folder must hold the cell's run, and {run.model_dir} holds another: move it away, or name "
                "another --output."
            )
        figures = read_result(run.model_dir, *RESULT_KEYS)
        if figures and figures["step"] == run.train_config.total_steps and not self._has_final_result(cell):
            self.add(finished_result(self.record, cell, figures))

    def _has_final_result(self, cell: Cell) -> bool:
        return cell in self.results and self.results[cell].is_final


@contextlib.contextmanager
def opened_study(output: str, record: StudyRecord) -> Iterator[dict[Cell, CellResult]]:
    """Holds a study's folder, which becomes this study's if it is new; yields the results that are in it.

    Raises:
      UserError: the folder holds something else, another study, or one that another process runs.
    """
    found = read_study_record(output)
    if found is None:
        storage.require_empty(output)
        record.write(output)
    with locked(output):
        found = read_study_record(output)
        _require_same(found, record, output)
        yield read_results(output, record.spec)


def run_study(study: StudyRun, jobs: int) -> dict[str, Any]:
    """Runs the cells that are left; returns counts, failures and the chosen rates.

    Raises:
      Interrupted: a signal stopped it, after the cells that were running have saved.
    """
    study.take_finished_runs()
    running: dict[Cell, Child] = {}
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    left = study.left()
    with _StopSignals(running) as stop, selectors.DefaultSelector() as selector:
        with progress_bar("cells", "cell", total=len(left)) as bar:
            while left := study.left():
                waiting = [cell for cell in left if cell not in running]
                while waiting and len(running) < jobs and not stop.received:
                    _start(study, waiting.pop(0), running, selector, threads)
                if not running:
                    break
                for child in _ended(selector):
                    del running[child.cell]
                    selector.unregister(child.stdout)
                    _keep(study, child.cell, child.wait(), stop.received is not None)
                    bar.total = len(study.left()) + bar.n + 1
                    bar.update()
        if stop.received:
            raise Interrupted(
                f"{stop.received.name} stopped the study with {len(study.left())} cells left, and those under way have "
                "saved: run the same command again to go on."
            )
    return summary(study)


def summary(study: StudyRun) -> dict[str, Any]:
    """Returns what has come of a study, as plain JSON values."""
    planned = study.planned()
    ended = [study.results[cell] for cell in planned if cell in study.results]
    failed = [one for one in ended if one.status == FAILED]
    return {
        "output": study.output,
        "planned": len(planned),
        "finished": sum(one.status == FINISHED for one in ended),
        "failed": [{"cell": one.cell.name, "reason": one.reason} for one in failed],
        "rates": {
            name: dataclasses.asdict(choice) for name, choice in study.rate_choices().items() if name in study.arms
        },
    }


def _start(
    study: StudyRun, cell: Cell, running: dict[Cell, Child], selector: selectors.BaseSelector, threads: int | None
) -> None:
    child = Child(cell, study.orders.order(cell), cell.log_path(study.output), threads)
    running[cell] = child
    selector.register(child.stdout, selectors.EVENT_READ, child)


def _ended(selector: selectors.BaseSelector) -> list[Child]:
    return [key.data for key, _ in selector.select(SECONDS_BETWEEN_LOOKS)]


def _keep(study: StudyRun, cell: Cell, outcome: Outcome, is_stopping: bool) -> None:
    if outcome.is_interrupted and is_stopping:
        return
    if outcome.is_done:
        study.add(_finished(study, cell))
        logging.info("%s  %.4f bits per byte", cell.name, study.results[cell].val_bits_per_byte)
        return
    logging.error("%s failed: %s", cell.name, outcome.reason)
    study.add(result_without_figures(study.record, cell, FAILED, outcome.reason, outcome.diverged))


def _finished(study: StudyRun, cell: Cell) -> CellResult:
    return finished_result(study.record, cell, read_result(cell.run_folder(study.output), *RESULT_KEYS))


def _require_same(found: StudyRecord, record: StudyRecord, output: str) -> None:
    for name in (field.name for field in dataclasses.fields(record.spec) if field.compare):
        if getattr(found.spec, name) != getattr(record.spec, name):
            raise UserError(
                f"--output must be new or hold the same study, and {output} holds one of other {name}: name another."
            )
    if found.records != record.records:
        raise UserError(
            f"--output must be new or hold a study of the same records, and {output} holds one of others: name another."
        )


class _StopSignals:
    """While entered, passes the first signal on to the cells' processes, which save; ends everything at the second."""

    def __init__(self, running: dict[Cell, Child]):
        self.received: signal.Signals | None = None
        self._running = running
        self._watch = interrupts.SignalWatch(self._on_watch)
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "_StopSignals":
        self._previous = {number: signal.signal(number, _do_nothing) for number in SIGNALS}
        self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.__exit__()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_watch(self, number: int) -> None:
        if number not in SIGNALS:
            return
        _stop_all(list(self._running.values()))
        if self.received:
            interrupts.write_last_line("error: a second signal ended the study at once; the same command goes on.")
            interrupts.end_process(128 + number)
        self.received = signal.Signals(number)
        logging.warning("%s: the cells under way save and end; a second signal ends them at once", self.received.name)


def _do_nothing(*_: object) -> None:
    """The watch does what there is to do."""


def _stop_all(children: Iterable[Child]) -> None:
    for child in children:
        child.stop()
