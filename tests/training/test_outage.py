"""Whole processes that train into a folder on Cloud Storage which fails: an outage is not a crash."""

import json
import time

import pytest
from impatient_training import Training
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_process import write_config

from algpt2 import storage
from algpt2.checkpoints.folder import checkpoint_step, committed_checkpoints
from algpt2.tracking.metrics import read_metrics

MODEL_DIR = "gs://bucket/run"
STEPS, LOG_EVERY, SAVE_EVERY = 2000, 20, 200
OUTAGE_SECONDS = 4.0


@pytest.fixture
def train(records_folder, tmp_path, cloud):
    """Starts a training; returns it."""
    started = []

    def start(end_seconds, steps=STEPS, save_every=SAVE_EVERY):
        flags = [
            *("--train_path", records_folder, "--config_path", write_config(tmp_path / "config.json")),
            *("--model_dir", MODEL_DIR, "--steps", str(steps), "--batch_size", "4", "--no-jit_compile"),
            *("--log_every_steps", str(LOG_EVERY), "--save_every_steps", str(save_every), "--steps_per_loop", "5"),
        ]
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Training(folder, {"STORAGE_EMULATOR_HOST": cloud.address}, end_seconds, *flags))
        return started[-1]

    yield start
    for training in started:
        training.process.kill()
        training.process.join()


def steps_logged(training):
    return training.log.count("  gradient norm ") * LOG_EVERY


def steps_of(tag, folder):
    """Returns the steps of a curve, as TensorBoard reads the event files, which are downloaded for it."""
    folder.mkdir()
    for file in storage.of(MODEL_DIR).list_files(f"{MODEL_DIR}/tensorboard"):
        (folder / storage.base_name(file)).write_bytes(storage.read_bytes(file))
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return [point.step for point in found.Scalars(tag)]


def test_an_outage_costs_nothing_but_a_few_warnings(train, cloud, tmp_path):
    """It is longer than an operation is retried, and than the lease of the folder, and than two checkpoints take.

    A training that stands still, perhaps when a checkpoint is due, never gets there.
    """
    training = train(60)
    training.wait_for("  saved ")
    with cloud.failing():
        before = steps_logged(training)
        time.sleep(OUTAGE_SECONDS)
        training.wait_until(lambda: steps_logged(training) > before + 2 * SAVE_EVERY)
    result = json.loads(training.finish())
    assert json.loads(storage.read_text(f"{MODEL_DIR}/result.json")) == result
    every_line = list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))
    assert [line["step"] for line in read_metrics(MODEL_DIR)] == every_line
    assert steps_of("train/loss", tmp_path / "events") == every_line
    kinds = [warning.split(" cannot be ")[0] for warning in training.warnings()]
    assert sorted(kinds) == sorted(set(kinds)), "one of each kind within a minute"
    assert len(kinds) <= 3
    assert "was written again after" in training.log
    assert not storage.exists(f"{MODEL_DIR}/.lock")


def test_sigterm_in_an_outage_is_a_sentence_in_time_and_the_run_goes_on_later(train, cloud):
    training = train(2.0, steps=100_000)
    training.wait_for("  saved ")
    with cloud.failing():
        time.sleep(1.0)
        begin = time.monotonic()
        training.stop()
        training.finish(status=1)
        assert time.monotonic() - begin < 40, "a user's run tries for 60 s, this one for 2"
    saved = committed_checkpoints(MODEL_DIR)
    sentence = training.last_line()
    assert sentence.startswith("error: the checkpoint of step ")
    assert f"and the last one is that of step {checkpoint_step(saved[-1])}: make room" in sentence
    resumed = train(60, steps=checkpoint_step(saved[-1]) + LOG_EVERY)
    assert json.loads(resumed.finish())["step"] == checkpoint_step(saved[-1]) + LOG_EVERY
    assert f"resuming from {saved[-1]}" in resumed.log


def test_checkpoints_that_may_not_be_deleted_are_a_warning_and_everything_else_is_as_ever(train, cloud):
    with cloud.failing("DELETE", status=403):
        training = train(60, steps=120, save_every=20)
        result = json.loads(training.finish())
    assert json.loads(storage.read_text(f"{MODEL_DIR}/result.json")) == result
    assert [checkpoint_step(folder) for folder in committed_checkpoints(MODEL_DIR)] == [20, 40, 60, 80, 100, 120]
    assert len([warning for warning in training.warnings() if "cannot be deleted" in warning]) == 1
    assert [line["failed_checkpoints"] for line in read_metrics(MODEL_DIR)] == [0] * 6
