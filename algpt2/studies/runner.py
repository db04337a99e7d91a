"""Runs the cells of a study, one after the other or several at a time, each in a process of its own."""

import os
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging

from algpt2 import interrupts
from algpt2.errors import Interrupted, UserError
from algpt2.processes import available_cpus
from algpt2.progress import LiveLine
from algpt2.studies.cells import Cell
from algpt2.studies.children import CELL_COMMAND, Child, Outcome
from algpt2.studies.results import FINISHED
from algpt2.studies.study_run import StudyRun

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS_BETWEEN_LOOKS = 1.0
MOST_JOBS = 1024


def require_jobs(jobs: int, tpu: str | None) -> None:
    """Checks how many cells may run at a time, and that this machine is to run them alone.

    Raises:
      UserError: another number, or several where there is one TPU, or a cluster of workers, which would have to agree.
    """
    if not 1 <= jobs <= MOST_JOBS:
        raise UserError(f"--jobs must be from 1 to {MOST_JOBS}, received {jobs}: 1 uses all cores.")
    if tpu and jobs > 1:
        raise UserError(f"--jobs must be 1 with --tpu, which one process at a time can use, received {jobs}: leave it.")
    if os.environ.get("TF_CONFIG"):
        raise UserError(
            "a study runs its cells from one machine, and TF_CONFIG makes it one of several workers: unset it."
        )


class Runner:
    """Keeps as many cells of a study running as there are to be at a time.

    Args:
      study: which cells there are; gets what they come to.
      jobs: how many run at a time; they share the cores.
      command: the program that trains a cell.
      clock: seconds since some moment, by which the time left is told.
    """

    def __init__(
        self,
        study: StudyRun,
        jobs: int = 1,
        command: Sequence[str] = CELL_COMMAND,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._study, self._jobs, self._command, self._clock = study, jobs, command, clock
        self._threads = max(1, available_cpus() // jobs) if jobs > 1 else None
        self._running: dict[Cell, Child] = {}
        self._began, self._ended = clock(), 0

    def run(self) -> None:
        """Runs the cells that are left.

        Raises:
          UserError: a cell's folder holds another run.
          Interrupted: a signal stopped the study, after the cells that were running have saved.
        """
        self._study.take_finished_runs()
        with _StopSignals(self._running) as stop, selectors.DefaultSelector() as selector:
            n_left = len(self._study.left())
            line = LiveLine(len(self._study.planned()) - n_left, len(self._study.planned()), unit="cells")
            try:
                while left := self._study.left():
                    self._start(left, selector, stop)
                    if not self._running:
                        break
                    self._take_ended(selector, stop, line)
            finally:
                line.close()
            if stop.received:
                raise Interrupted(
                    f"{stop.received.name} stopped the study with {len(self._study.left())} cells left, of which those "
                    "under way have saved: run the same command again to go on."
                )

    def _start(self, left: list[Cell], selector: selectors.BaseSelector, stop: "_StopSignals") -> None:
        for cell in left:
            if stop.received or len(self._running) >= self._jobs:
                return
            if cell not in self._running:
                log_path = cell.log_path(self._study.output)
                child = Child(cell, self._study.orders.order(cell), log_path, self._threads, self._command)
                self._running[cell] = child
                selector.register(child.stdout, selectors.EVENT_READ, child)
                if stop.received:  # It came while the process was started, and so did not reach it.
                    child.stop()

    def _take_ended(self, selector: selectors.BaseSelector, stop: "_StopSignals", line: LiveLine) -> None:
        for key, _ in selector.select(SECONDS_BETWEEN_LOOKS):
            child: Child = key.data
            selector.unregister(child.stdout)
            outcome = child.wait()
            del self._running[child.cell]
            if not (outcome.is_interrupted and stop.received):
                self._take(child.cell, outcome)
                line.advance(1, child.cell.name, total=len(self._study.planned()))

    def _take(self, cell: Cell, outcome: Outcome) -> None:
        if not (outcome.is_done and self._study.take_finished_run(cell)):
            self._study.take_failure(cell, outcome.reason, outcome.diverged)
        self._ended += 1
        result = self._study.results[cell]
        if result.status == FINISHED:
            logging.info("%s  %.4f bits per byte%s", cell.name, result.val_bits_per_byte, self._told_progress())
        else:
            logging.error("%s failed: %s%s", cell.name, result.reason, self._told_progress())

    def _told_progress(self) -> str:
        """'  3 of 12 cells  61 s each  9 min left'."""
        planned, left = len(self._study.planned()), len(self._study.left())
        seconds = (self._clock() - self._began) / self._ended
        return f"  {planned - left} of {planned} cells  {seconds:.0f} s each  {seconds * left / 60:.0f} min left"


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
        is_second = self.received is not None
        self.received = self.received or signal.Signals(number)  # before any process ends of it
        for child in list(self._running.values()):
            child.stop()
        if is_second:
            interrupts.write_last_line("error: a second signal ended the study at once: the same command goes on.")
            interrupts.end_process(128 + number)
        logging.warning("%s: the cells under way save and end; a second signal ends them at once", self.received.name)


def _do_nothing(*_: object) -> None:
    """The watch, on a thread of its own, does what there is to do."""
