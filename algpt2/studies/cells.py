"""A cell of a study: one arm, trained at one rate with one seed. It is an ordinary run, with a folder of its own."""

import dataclasses

from algpt2 import storage

SELECTION, CONFIRMATION = "selection", "confirmation"
CELLS_FOLDER, RESULTS_FOLDER = "cells", "results"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
      arm: the arm's name.
      learning_rate: the peak.
      seed: of the run: of its initial weights, the order of its records and its dropout masks.
      stage: `selection` or `confirmation`: what it is for.
    """

    arm: str
    learning_rate: float
    seed: int
    stage: str

    @property
    def name(self) -> str:
        """'gpt2/lr-0.003-seed-1'."""
        return f"{self.arm}/lr-{self.learning_rate:.15g}-seed-{self.seed}"

    def run_folder(self, output: str) -> str:
        """Returns the folder of its run in a study's folder."""
        return storage.join(output, CELLS_FOLDER, self.name)

    def log_path(self, output: str) -> str:
        """Returns the file of what its process writes on stderr; beside the run's folder, which begins empty."""
        return storage.join(output, CELLS_FOLDER, f"{self.name}.log")

    def result_path(self, output: str) -> str:
        """Returns the file of its result in a study's folder."""
        return storage.join(output, RESULTS_FOLDER, f"{self.name}.json")
