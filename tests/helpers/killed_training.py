"""What a process of `kill_trials.py` runs: real training that kills itself with SIGKILL at a given moment."""

import dataclasses
import json
import os
import signal
import sys
import threading
import time

from algpt2 import cli
from algpt2.devices import strategies
from algpt2.evaluation.validation import Validator
from algpt2.training import loop
from algpt2.training.checkpoint_store import CheckpointStore
from algpt2.training.run_checkpoints import RunCheckpoints
from algpt2.training.step import TrainStep

KINDS = ("start", "save", "eval", "between", "end")
FILE_EVENTS = {f"os.{name}" for name in ("chmod", "mkdir", "remove", "rename", "rmdir", "scandir")} | {"open"}
WRITER_THREAD = "checkpoint writer"


@dataclasses.dataclass(frozen=True)
class Moment:
    """When a process dies.

    start, save, end: before file operation number `count` on the run's folder, counted before the first step, in the
    thread that writes checkpoints, or after the last step. A finished file that is about to be published there keeps
    the fraction `cut` of its bytes, as if its write had been interrupted.
    eval, between: `delay_seconds` into validation, or from graph call, number `count`. A "between" comes at the end of
    the last graph call at the latest, and waits for the end of a save or validation under way.
    """

    kind: str
    count: int
    delay_seconds: float = 0.0
    cut: float | None = None


def main(run, notes_path, moment, environment):
    """Trains; appends to `notes_path` what it did, and to `notes_path`.log what it logged."""
    log = os.open(f"{notes_path}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stderr.fileno())
    os.environ.update(environment)
    sys.exit(cli.exit_status(lambda _: Trial(run, notes_path, moment).train(), []))


class Trial:
    """One process's run, from its start to its death or end."""

    def __init__(self, run, notes_path, moment):
        self.run = run
        self.moment = moment
        self.notes = os.open(notes_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.phase = "start"
        self.busy = set()
        self.count = dict.fromkeys(KINDS, 0)
        self.lock = threading.RLock()
        self.hurry = threading.Event()

    def train(self):
        strategy = strategies.create_strategy()
        self._watch(TrainStep, "__call__", self._graph_call)
        self._watch(Validator, "__call__", self._validation)
        self._watch(CheckpointStore, "write", self._save)
        self._watch(RunCheckpoints, "restore", self._restore)
        sys.addaudithook(self._on_event)
        result = loop.train(self.run, strategy)
        self._die_if(self.phase, "after the end")
        self._note(result=result)
        return cli.EXIT_OK

    def _watch(self, owner, name, watcher):
        original = getattr(owner, name)
        setattr(owner, name, lambda *arguments: watcher(original, *arguments))

    def _restore(self, restore, checkpoints):
        state = restore(checkpoints)
        self._note(began=state.step)
        return state

    def _graph_call(self, call, train_step, iterator, first_step, n_steps, skips):
        if self.phase == "start":
            self._die_if("start", "before the first step")
            self.phase = "steps"
        self._arm("between", f"from step {first_step}")
        begin = time.monotonic()
        outcome = call(train_step, iterator, first_step, n_steps, skips)
        self._note(between=time.monotonic() - begin)
        if first_step + n_steps == self.run.train_config.total_steps:
            self.phase = "end"
            self._die_in_time()
        return outcome

    def _validation(self, call, validator):
        with self.lock:
            self.busy.add("eval")
        armed = self._arm("eval", "validation")
        begin = time.monotonic()
        outcome = call(validator)
        if armed:
            self._die("validation, at its end")
        self._note(eval=time.monotonic() - begin)
        with self.lock:
            self.busy.remove("eval")
        return outcome

    def _save(self, write, *arguments):
        with self.lock:
            self.busy.add("save")
        try:
            return write(*arguments)
        finally:
            with self.lock:
                self.busy.remove("save")

    def _arm(self, kind, where):
        """Starts the clock if this is the moment's occurrence of its kind; returns whether it is."""
        self.count[kind] += 1
        if not self.moment or (kind, self.count[kind]) != (self.moment.kind, self.moment.count):
            return False
        where = f"{where}, number {self.moment.count}, {1000 * self.moment.delay_seconds:.1f} ms in"
        threading.Thread(target=self._die_later, args=(where,), daemon=True).start()
        return True

    def _die_in_time(self):
        """A delay that is longer than all further steps, on a machine that is faster now than it was, ends here."""
        if self.moment and self.moment.kind == "between" and self.count["between"] >= self.moment.count:
            self.hurry.set()
            threading.Event().wait()

    def _die_later(self, where):
        self.hurry.wait(self.moment.delay_seconds)
        while True:
            with self.lock:
                if self.moment.kind == "eval" or not self.busy:
                    self._die(where)
            time.sleep(1e-4)

    def _on_event(self, event, arguments):
        if event not in FILE_EVENTS or not self.moment:
            return
        path = str(arguments[0])
        in_writer = threading.current_thread().name == WRITER_THREAD
        # A name without a folder is one that `shutil.rmtree` deletes below a folder it has open.
        if not in_writer and not path.startswith(self.run.model_dir) and path.startswith("/"):
            return
        if self.moment.kind == self.phase or (self.moment.kind == "save" and in_writer):
            self._on_file_operation(event, path, arguments)

    def _on_file_operation(self, event, path, arguments):
        self.count[self.moment.kind] += 1
        if self.count[self.moment.kind] < self.moment.count:
            return
        target = os.path.relpath(str(arguments[1]) if event == "os.rename" else path, self.run.model_dir)
        # `LocalStorage.publish` sets the permissions of a finished temporary file first.
        if event == "os.chmod" and self.moment.cut is not None:
            os.truncate(path, int(os.path.getsize(path) * self.moment.cut))
        self._die(f"{event} {target}")

    def _die_if(self, kind, where):
        if self.moment and self.moment.kind == kind:
            self._die(where)

    def _die(self, where):
        with self.lock:
            self._note(killed=self.moment.kind, where=where)
            os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, **values):
        """Appends a line. The lock keeps every other thread from adding one after that which announces the death."""
        with self.lock:
            os.write(self.notes, (json.dumps(values) + "\n").encode())
