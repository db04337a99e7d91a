"""A run's checkpoints under faults of the storage: what is loaded is always right, and the run goes on."""

import dataclasses
import errno
import os
import shutil
import threading
import time
import weakref
from pathlib import Path

import pytest
from tiny_models import ALGPT2_CONFIG
from tiny_run import train_tiny

from algpt2.checkpoints import background_writer
from algpt2.checkpoints.folder import (
    checkpoint_folder,
    checkpoint_step,
    committed_checkpoints,
    newest_intact_checkpoint,
)
from algpt2.config.cadence import Cadence
from algpt2.config.training import TrainConfig
from algpt2.errors import TrainingStopped
from algpt2.records.record_set import open_record_set
from algpt2.runs.plan import Run
from algpt2.storage import publisher
from algpt2.storage.files import LocalStorage
from algpt2.tracking.metrics import read_metrics
from algpt2.training import run_checkpoints, run_files
from algpt2.training.run_checkpoints import RunCheckpoints
from algpt2.training.save_times import SaveTimer, SaveTimes
from algpt2.training.step import TrainStep

STEPS = 8
MODEL_CONFIG = dataclasses.replace(ALGPT2_CONFIG, vocab_size=300, n_layer=1)


@pytest.fixture(autouse=True)
def patient_only_a_moment(monkeypatch):
    monkeypatch.setattr(publisher, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(run_files, "END_SECONDS", 1.0)


@pytest.fixture
def run(records_folder, tmp_path):
    return Run(
        model_config=MODEL_CONFIG,
        train_config=TrainConfig(total_steps=STEPS, batch_size=4, learning_rate=1e-2, jit_compile=False),
        cadence=Cadence(log_every_steps=2, save_every_steps=2, keep_checkpoints=10),
        train_records=open_record_set([records_folder], "train"),
        val_records=None,
        model_dir=str(tmp_path / "run"),
    )


@pytest.fixture
def expected(run, tmp_path):
    """The final tensors of the same run without faults."""
    train_tiny(dataclasses.replace(run, model_dir=str(tmp_path / "expected")))
    return tensors(tmp_path / "expected")


def tensors(model_dir):
    folder = Path(checkpoint_folder(str(model_dir), STEPS))
    return [(folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


def steps_saved(run):
    return [checkpoint_step(folder) for folder in committed_checkpoints(run.model_dir)]


def publish_with(monkeypatch, fault):
    """`fault(publish, local_file, path)` stands in for the storage's own `publish`, for checkpoints' files."""
    publish = LocalStorage.publish

    def faulty(self, local_file, path):
        if "/checkpoints/" in path:
            return fault(lambda file, target: publish(self, file, target), local_file, path)
        return publish(self, local_file, path)

    monkeypatch.setattr(LocalStorage, "publish", faulty)


@pytest.mark.parametrize(
    ("number", "name"),
    [(errno.EACCES, "model.safetensors"), (errno.ENOSPC, "state.json"), (errno.EIO, "COMMITTED")],
)
def test_a_write_that_keeps_failing_leaves_nothing_and_the_run_goes_on(
    monkeypatch, run, expected, caplog, number, name
):
    """Its files are deleted at once: the folder of step 4 is gone while the run goes on with later ones."""

    def fault(publish, local_file, path):
        if f"step_00000004/{name}" in path:
            raise OSError(number, os.strerror(number), path)
        publish(local_file, path)

    with monkeypatch.context() as patch:
        publish_with(patch, fault)
        result = train_tiny(run)
    saved = steps_saved(run)
    assert (saved[0], saved[-1]) == (2, STEPS)
    assert 4 not in saved
    assert not Path(checkpoint_folder(run.model_dir, 4)).exists()
    assert caplog.text.count(os.strerror(number)) == 1, "however often it was tried within a minute"
    assert tensors(run.model_dir) == expected
    assert result["step"] == STEPS


def test_a_partial_write_that_reports_success_is_found_and_the_checkpoint_before_it_used(monkeypatch, run, expected):
    def fault(publish, local_file, path):
        if "step_00000008/optimizer.safetensors" in path:
            Path(local_file).write_bytes(Path(local_file).read_bytes()[:-7])
        publish(local_file, path)

    with monkeypatch.context() as patch:
        publish_with(patch, fault)
        train_tiny(run)
    newest = newest_intact_checkpoint(run.model_dir)
    assert newest.step == 6
    train_tiny(run)
    assert tensors(run.model_dir) == expected


@pytest.mark.parametrize(("longest_wait_seconds", "saved"), [(60.0, [2, 4, 6, 8]), (0.0, [2, 8])])
def test_a_slow_storage_is_waited_for_but_a_hanging_one_is_not(monkeypatch, run, expected, longest_wait_seconds, saved):
    released = threading.Event()

    def fault(publish, local_file, path):
        if longest_wait_seconds == 0 and "step_00000002" in path:
            released.wait(30)
        time.sleep(0.02)
        publish(local_file, path)

    monkeypatch.setattr(background_writer, "LONGEST_WAIT_SECONDS", longest_wait_seconds)
    save_and_wait = RunCheckpoints.save_and_wait
    monkeypatch.setattr(RunCheckpoints, "save_and_wait", lambda *args: released.set() or save_and_wait(*args))
    publish_with(monkeypatch, fault)
    train_tiny(run)
    assert steps_saved(run) == saved
    assert tensors(run.model_dir) == expected


def test_an_end_that_cannot_be_saved_stops_the_run_with_a_sentence(monkeypatch, run):
    def fault(publish, local_file, path):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    publish_with(monkeypatch, fault)
    with pytest.raises(TrainingStopped, match="checkpoint of step 8 could not be written .*No space left"):
        train_tiny(run)
    assert steps_saved(run) == []


def test_the_last_good_checkpoint_is_never_deleted_for_one_that_failed(monkeypatch, run):
    run = dataclasses.replace(run, cadence=dataclasses.replace(run.cadence, keep_checkpoints=1))

    def fault(publish, local_file, path):
        if "step_00000002" not in path:
            raise OSError(errno.EIO, "broken", path)
        publish(local_file, path)

    publish_with(monkeypatch, fault)
    with pytest.raises(TrainingStopped):
        train_tiny(run)
    assert steps_saved(run) == [2]


def test_old_checkpoints_that_cannot_be_deleted_are_a_warning_once_and_every_save_counts(monkeypatch, run, caplog):
    """A deletion that counts as a failed save would be tried again, counted, and keep later saves from coming."""

    def refuse(self, path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    run = dataclasses.replace(run, cadence=dataclasses.replace(run.cadence, keep_checkpoints=1))
    monkeypatch.setattr(LocalStorage, "delete_file", refuse)
    train_tiny(run)
    assert steps_saved(run) == [2, 4, 6, 8]
    # A test before this one may have left a thread that still writes to another folder.
    warnings = [
        record for record in caplog.records if run.model_dir in record.getMessage() and record.levelname == "WARNING"
    ]
    assert ["old checkpoints in" in record.getMessage() for record in warnings] == [True]
    assert all(line["failed_checkpoints"] == 0 for line in read_metrics(run.model_dir))


def test_a_start_that_cannot_delete_what_is_unfinished_goes_on_with_a_warning(monkeypatch, run, caplog):
    unfinished = Path(checkpoint_folder(run.model_dir, 3))

    def refuse(self, path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(run_files, "END_SECONDS", 0.05)
        publish_with(patch, lambda publish, local_file, path: refuse(None, path))
        with pytest.raises(TrainingStopped):
            train_tiny(run)
    unfinished.mkdir(parents=True)
    (unfinished / "model.safetensors").write_text("half")
    monkeypatch.setattr(LocalStorage, "delete_folder", refuse)
    train_tiny(run)
    assert "unfinished checkpoints in" in caplog.text
    assert steps_saved(run)[-1] == STEPS


def test_at_most_two_copies_of_the_model_are_in_memory_and_those_given_up_are_counted(monkeypatch, run):
    """While the storage hangs with the first copy, each newer one takes the place of the one before it."""
    released, snapshots, most = threading.Event(), [], []
    take_snapshot = run_checkpoints.take_snapshot

    def take(*arguments):
        most.append(sum(snapshot() is not None for snapshot in snapshots) + 1)
        snapshot = take_snapshot(*arguments)
        snapshots.append(weakref.ref(snapshot))
        return snapshot

    def hang(publish, local_file, path):
        released.wait(30)
        publish(local_file, path)

    monkeypatch.setattr(background_writer, "LONGEST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(run_files, "END_SECONDS", 60.0)
    monkeypatch.setattr(run_checkpoints, "take_snapshot", take)
    save_and_wait = RunCheckpoints.save_and_wait
    monkeypatch.setattr(RunCheckpoints, "save_and_wait", lambda *args: released.set() or save_and_wait(*args))
    publish_with(monkeypatch, hang)
    train_tiny(run)
    assert max(most) == 2
    assert len(most) == 4
    assert [line["failed_checkpoints"] for line in read_metrics(run.model_dir)] == [0, 0, 0, 1]


def test_checkpoints_of_every_so_many_steps_stay_for_good(run):
    cadence = dataclasses.replace(run.cadence, save_every_steps=1, keep_checkpoints=1, keep_every_steps=3)
    train_tiny(dataclasses.replace(run, cadence=cadence))
    saved = steps_saved(run)
    assert saved == [3, 6, 8]


@pytest.mark.parametrize(
    ("seconds_per_step", "saved"), [(60, [2, 4, 6, 8]), (50, [3, 6, 8]), (121, [1, 2, 3, 4, 5, 6, 7, 8]), (1, [8])]
)
def test_a_checkpoint_is_saved_when_two_minutes_have_gone_by_since_the_last(monkeypatch, run, seconds_per_step, saved):
    """The clock stands still but for the steps: a timer that is not restarted, or counts steps, saves at others."""
    now = [1000.0]
    call = TrainStep.__call__

    def make_steps(self, iterator, first_step, n_steps, skips):
        now[0] += seconds_per_step * n_steps
        return call(self, iterator, first_step, n_steps, skips)

    monkeypatch.setattr(TrainStep, "__call__", make_steps)
    cadence = Cadence(log_every_steps=1, save_every_steps=100, save_every_minutes=2, keep_checkpoints=10)
    train_tiny(dataclasses.replace(run, cadence=cadence), clock=lambda: now[0])
    assert steps_saved(run) == saved


def test_a_checkpoint_by_steps_restarts_the_minutes_too():
    now = [0.0]
    timer = SaveTimer(2, clock=lambda: now[0])
    now[0] = 119.0
    assert not timer.is_due()
    timer.restart()
    now[0] = 120.0
    assert not timer.is_due()
    now[0] = 239.0
    assert timer.is_due()


def test_without_minutes_no_checkpoint_is_due_by_time():
    now = [0.0]
    timer = SaveTimer(0, clock=lambda: now[0])
    now[0] = 1e9
    assert not timer.is_due()


def test_times_of_saving_are_told_once_and_summed():
    clock = iter([0.0, 2.0, 10.0, 10.5])
    times = SaveTimes(clock=lambda: next(clock))
    with times.holding_up():
        times.add_write(7.0)
    assert times.since_last_call() == {"checkpoint_seconds": 7.0, "checkpoint_wait_seconds": 2.0}
    assert times.since_last_call() == {"checkpoint_wait_seconds": 0.0}
    with pytest.raises(OSError, match="full"), times.holding_up():
        raise OSError("full")
    assert times.totals() == {"checkpoint_seconds": 7.0, "checkpoint_wait_seconds": 2.5}


def test_a_run_resumes_beside_a_copy_of_a_checkpoint_which_it_neither_counts_nor_deletes(run, caplog):
    run = dataclasses.replace(run, cadence=dataclasses.replace(run.cadence, keep_checkpoints=2))
    train_tiny(run)
    expected = tensors(run.model_dir)
    newest = checkpoint_folder(run.model_dir, STEPS)
    copy = Path(shutil.move(newest, f"{newest}_backup"))
    (Path(run.model_dir) / "result.json").unlink()
    train_tiny(run)
    assert steps_saved(run) == [STEPS - 2, STEPS]
    assert (copy / "COMMITTED").exists()
    assert sum(f"{copy.name} in " in record.getMessage() for record in caplog.records) == 1
    assert tensors(run.model_dir) == expected
