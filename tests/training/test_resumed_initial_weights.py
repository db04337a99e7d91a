"""The weights that a run begins with are taken once: a resumed run goes on with its own."""

import dataclasses
from pathlib import Path

from tiny_run import STEPS, tiny_run, train_tiny, train_until_killed

from algpt2.runs.plan import InitialWeights


def final_weights(run):
    return (Path(run.model_dir) / f"checkpoints/step_{STEPS:08d}/model.safetensors").read_bytes()


def test_a_run_that_began_with_the_weights_of_another_resumes_with_its_own(records_folder, tmp_path, monkeypatch):
    other = tiny_run(records_folder, tmp_path / "other", seed=1)
    train_tiny(other)
    whole, killed = (
        dataclasses.replace(
            tiny_run(records_folder, tmp_path / name), initial_weights=InitialWeights(other.model_dir), val_records=None
        )
        for name in ("whole", "killed")
    )
    train_tiny(whole)
    train_until_killed(killed, monkeypatch, 6)
    train_tiny(killed)
    assert final_weights(killed) == final_weights(whole)
