"""SIGTERM and SIGINT ask a run to stop after its present steps; a second one ends the process at once."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

from absl import logging

from algpt2 import interrupts, storage
from algpt2.checkpoints.folder import CHECKPOINTS, checkpoint_step, committed_checkpoints

SIGNALS = (signal.SIGTERM, signal.SIGINT)
Handler = Callable[[int, FrameType | None], object] | int | None


class StopSignals:
    """While entered, remembers the first signal instead of dying of it, and ends the process at the second.

    A graph call of many steps, or a compilation, keeps the main thread for minutes. The second signal does not wait
    for it: checkpoints are committed whole, so nothing that counts is lost but the steps since the last one.

    Args:
      model_dir: the run's folder, whose last checkpoint the process names when it ends at once.
    """

    def __init__(self, model_dir: str) -> None:
        self.received: signal.Signals | None = None
        self._model_dir = model_dir
        self._has_come_before = False
        self._watch = interrupts.SignalWatch(self._on_watch)
        self._previous: dict[signal.Signals, Handler] = {}

    def __enter__(self) -> "StopSignals":
        # Python lets only the main thread set handlers, so a run on another thread goes on whatever signal comes.
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._remember) for number in SIGNALS}
            self._watch.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._previous:
            self._watch.__exit__()
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None = None) -> None:
        self.received = self.received or signal.Signals(number)

    def _on_watch(self, number: int) -> None:
        if number not in SIGNALS:
            return
        name = signal.Signals(number).name
        if self._has_come_before:
            self._end_at_once(number, name)
        self._has_come_before = True
        self._remember(number)
        logging.warning("%s: the run saves after the steps under way, and ends; a second signal ends it at once", name)

    def _end_at_once(self, number: int, name: str) -> None:
        try:
            interrupts.write_last_line(f"error: a second signal, {name}, ended the run at once: {self._what_is_left()}")
        finally:
            interrupts.end_process(128 + number)

    def _what_is_left(self) -> str:
        """Returns what the same command would go on from, without asking a storage that may not answer."""
        if storage.is_remote(self._model_dir):
            return f"the same command goes on from the last checkpoint in {self._model_dir}/{CHECKPOINTS}."
        if checkpoints := committed_checkpoints(self._model_dir):
            step = checkpoint_step(checkpoints[-1])
            return f"the same command goes on from its last checkpoint, at step {step}, in {self._model_dir}."
        return f"it has no checkpoint in {self._model_dir} yet, so the same command begins anew."
