"""A run trains on the records that its seed names, in their order."""

import pytest
from tiny_run import spoil_steps, tiny_run, train_tiny

from algpt2.errors import TrainingStopped


@pytest.mark.parametrize("seed", [0, 3])
def test_the_seed_of_a_run_decides_which_records_a_step_trains_on(records_folder, tmp_path, monkeypatch, seed):
    """The batch that the seed names for step 5 is spoiled, so the run must stop there and nowhere else."""
    run = tiny_run(records_folder, tmp_path / "run", seed=seed)
    spoil_steps(monkeypatch, run, [5])
    with pytest.raises(TrainingStopped, match="not finite at step 5"):
        train_tiny(run)
