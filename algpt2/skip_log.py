"""`skipped.jsonl`: every step whose update was skipped, with the records of its batch."""

from algpt2 import storage
from algpt2.input_pipeline import record_ids
from algpt2.metrics import StepFile
from algpt2.run_plan import Run
from algpt2.train_step import StepResults

SKIPPED_NAME = "skipped.jsonl"


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
