"""What stops a run after a graph call: a loss that is not finite, or too many skipped updates in a row."""

from collections.abc import Callable, Sequence

import numpy as np
from absl import logging

from algpt2 import storage
from algpt2.errors import Diverged
from algpt2.records.input_pipeline import RecordId
from algpt2.runs.folder import SKIPPED_NAME
from algpt2.storage.publisher import Publisher
from algpt2.tracking.metrics import StepFile, StepResults
from algpt2.training.spikes import SkipState


class SkipLog:
    """Writes a line for each skipped step: `step` (0-based), loss, gradient norm, and record ids `shard:index`."""

    def __init__(
        self,
        model_dir: str,
        first_step: int,
        records_of: Callable[[int], Sequence[RecordId]],
        publisher: Publisher,
    ):
        """Keeps the lines of the steps before `first_step`, which a resumed run does not make again.

        Args:
          model_dir: the run's folder.
          first_step: 0-based number of the step that the run goes on with.
          records_of: returns the records of a step's global batch.
          publisher: writes the file.
        """
        self._records_of = records_of
        self._file = StepFile(storage.join(model_dir, SKIPPED_NAME), first_step - 1, publisher)

    def write(self, first_step: int, results: StepResults) -> None:
        """Writes the skipped steps of one graph call."""
        for i in results.skipped.nonzero()[0].tolist():
            line = {
                "loss": float(results.losses[i]),
                "gradient_norm": float(results.norms[i]),
                "records": [str(record) for record in self._records_of(first_step + i)],
            }
            self._file.write(first_step + i, line)


class StepGuard:
    """Reports skipped updates, and refuses to go on where that would be no use."""

    def __init__(self, max_skips: int, log: SkipLog | None):
        """Takes the most updates that may be skipped in a row, and the file that names them, which the chief has."""
        self._max_skips = max_skips
        self._log = log

    def check(self, first_step: int, results: StepResults, skips: SkipState) -> None:
        """Looks at the results of one graph call, and at the state before it.

        Raises:
          Diverged: an update was made with a loss or norm that is not finite, or too many in a row were skipped.
        """
        if results.skipped.any():
            self._report(first_step, results, max(skips.rows(results.skipped)[1:]))
        finite = (np.isfinite(results.losses) & np.isfinite(results.norms)) | results.skipped
        if not finite.all():
            bad = int(np.argmin(finite))
            raise Diverged(
                f"the loss or the gradient is not finite at step {first_step + bad} (loss {results.losses[bad]}, "
                f"gradient norm {results.norms[bad]}): nothing was saved after it; lower --learning_rate, raise "
                "--warmup_steps, or skip such updates with --skip_spikes."
            )

    def _report(self, first_step: int, results: StepResults, in_a_row: int) -> None:
        steps = ", ".join(str(first_step + i) for i in results.skipped.nonzero()[0])
        logging.warning("skipped the updates of steps %s: see %s", steps, SKIPPED_NAME)
        if self._log:
            self._log.write(first_step, results)
        if in_a_row > self._max_skips:
            raise Diverged(
                f"{in_a_row} updates in a row were skipped, more than --max_skips {self._max_skips}, the last of steps "
                f"{steps}: nothing was saved after step {first_step}; look at the records with "
                "data_tools/inspect_tfrecords.py --replay, lower --learning_rate, or go back with --rewind_to."
            )
