"""However a run ends, what it was writing is written before it has ended."""

import time

import pytest
from tiny_run import spoil_steps, tiny_run, train_tiny

from algpt2.checkpoints.folder import Checkpoint, checkpoint_step, committed_checkpoints
from algpt2.errors import TrainingStopped
from algpt2.storage.local import LocalStorage


@pytest.fixture
def run(records_folder, tmp_path, monkeypatch):
    """A run on a slow disk, without evaluations that would take as long as it."""
    publish = LocalStorage.publish

    def slow_publish(self, local_file, path):
        time.sleep(0.1 if "/checkpoints/" in path else 0)
        publish(self, local_file, path)

    monkeypatch.setattr(LocalStorage, "publish", slow_publish)
    return tiny_run(records_folder, tmp_path / "run")


def steps_saved(run):
    return [checkpoint_step(folder) for folder in committed_checkpoints(run.model_dir)]


def test_a_run_that_is_stopped_has_written_the_checkpoint_that_was_under_way(run, monkeypatch):
    """The process may end at once, and a thread of it would end in the middle of the write."""
    spoil_steps(monkeypatch, run, [3])
    with pytest.raises(TrainingStopped, match="not finite at step 3"):
        train_tiny(run)
    assert steps_saved(run) == [3]


def test_a_run_that_has_ended_has_written_its_last_checkpoint(run):
    train_tiny(run)
    assert steps_saved(run) == [6, 9, 10]


def test_every_checkpoint_says_how_many_steps_and_tokens_its_run_had_seen(run):
    train_tiny(run)
    states = [Checkpoint(folder).read_state() for folder in committed_checkpoints(run.model_dir)]
    assert [(state.step, state.tokens) for state in states] == [(step, step * 4 * 16) for step in (6, 9, 10)]
    assert {state.train_fingerprint for state in states} == {run.train_records.fingerprint}
