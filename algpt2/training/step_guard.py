"""What stops a run after a graph call: a loss that is no number, or too many skipped updates in a row."""

import numpy as np
from absl import logging

from algpt2 import storage
from algpt2.data.input_pipeline import record_ids
from algpt2.errors import TrainingStopped
from algpt2.runs.folder import SKIPPED_NAME
from algpt2.runs.plan import Run
from algpt2.tracking.metrics import StepFile, StepResults
from algpt2.training.spikes import SkipState


class StepGuard:
    """Counts and reports skipped updates, and refuses to go on where that would be no use."""

    def __init__(self, run: Run, skips: SkipState, first_step: int, is_chief: bool):
        self._max_skips = run.train_config.max_skips
        self._skips = skips
        self._log = SkipLog(run, first_step) if is_chief else None

    def check(self, first_step: int, results: StepResults) -> None:
        """Takes in the results of one graph call.

        Raises:
          TrainingStopped: an update was made with a loss or norm that is not finite, or too many in a row were skipped.
        """
        in_a_row = self._skips.count(results.skipped)
        if results.skipped.any():
            self._report(first_step, results, in_a_row)
        finite = (np.isfinite(results.losses) & np.isfinite(results.norms)) | results.skipped
        if not finite.all():
            bad = int(np.argmin(finite))
            raise TrainingStopped(
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
            raise TrainingStopped(
                f"{in_a_row} updates in a row were skipped, more than --max_skips {self._max_skips}, the last of steps "
                f"{steps}: nothing was saved after step {first_step}; look at the records with "
                "data_tools/inspect_tfrecords.py --replay, lower --learning_rate, or go back with --rewind_to."
            )


class SkipLog:
    """Writes a line for each skipped step: `step` (0-based), loss, gradient norm, and record ids `shard:index`."""

    def __init__(self, run: Run, first_step: int):
        """Keeps the lines of the steps before `first_step`, which a resumed run does not make again."""
        self.run = run
        self._log = StepFile(storage.join(run.model_dir, SKIPPED_NAME), first_step - 1)

    def write(self, first_step: int, results: StepResults) -> None:
        """Takes in the results of one graph call."""
        for i in results.skipped.nonzero()[0].tolist():
            step, config = first_step + i, self.run.train_config
            ids = record_ids(self.run.train_records, config.batch_size, config.seed, step)
            line = {
                "loss": float(results.losses[i]),
                "gradient_norm": float(results.norms[i]),
                "records": [str(record) for record in ids],
            }
            self._log.write(step, line)
