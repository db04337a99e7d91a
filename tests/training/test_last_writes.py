"""However a run ends, what it was writing is written before it has ended."""

import dataclasses
import time

import pytest
from tiny_run import spoil_steps, tiny_run, train_tiny

from algpt2.checkpoints import save_load
from algpt2.checkpoints.folder import Checkpoint, checkpoint_step, committed_checkpoints
from algpt2.config.cadence import Cadence
from algpt2.errors import Interrupted, TrainingStopped
from algpt2.storage.local import LocalStorage
from algpt2.tracking.metrics import read_metrics
from algpt2.tracking.run_log import RunLog
from algpt2.training.process import Process
from algpt2.training.run_checkpoints import RunCheckpoints


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


def test_a_run_that_a_signal_stops_has_saved_the_step_that_it_stops_after(run, monkeypatch):
    monkeypatch.setattr(Process, "must_stop", lambda self: True)
    with pytest.raises(Interrupted, match="after step 2 of 10, which is saved"):
        train_tiny(run)
    assert steps_saved(run) == [2]


def test_a_run_that_has_ended_has_written_its_last_checkpoint(run):
    train_tiny(run)
    assert steps_saved(run) == [6, 9, 10]


def test_every_checkpoint_says_how_many_steps_and_tokens_its_run_had_seen(run):
    train_tiny(run)
    states = [Checkpoint(folder).read_state() for folder in committed_checkpoints(run.model_dir)]
    assert [(state.step, state.tokens) for state in states] == [(step, step * 4 * 16) for step in (6, 9, 10)]
    assert {state.train_fingerprint for state in states} == {run.train_records.fingerprint}


def test_a_step_is_measured_before_its_checkpoint_is_handed_over(run, monkeypatch):
    done, write_evaluations, save = [], RunLog.write_evaluations, RunCheckpoints.save

    def written(self, results):
        done.append("measured")
        write_evaluations(self, results)

    def saved(self, state):
        done.append(state.step)
        save(self, state)

    monkeypatch.setattr(RunLog, "write_evaluations", written)
    monkeypatch.setattr(RunCheckpoints, "save", saved)
    train_tiny(dataclasses.replace(run, cadence=Cadence(2, eval_every_steps=4, save_every_steps=4)))
    assert done == ["measured", 4, "measured", 8, "measured", 10]


def test_what_was_measured_at_a_step_is_written_before_the_checkpoint_of_that_step(run, monkeypatch):
    """A run that is killed behind the checkpoint resumes there, and never measures that step again."""
    committed, commit_checkpoint = [], save_load.commit

    def commit(folder, state):
        step = checkpoint_step(folder)
        measured = [line["step"] for line in read_metrics(run.model_dir) if "val_loss" in line]
        committed.append((step, [one for one in measured if one <= step]))
        commit_checkpoint(folder, state)

    monkeypatch.setattr(save_load, "commit", commit)
    train_tiny(dataclasses.replace(run, cadence=Cadence(2, eval_every_steps=4, save_every_steps=4)))
    assert committed == [(4, [4]), (8, [4, 8]), (10, [4, 8, 10])]
