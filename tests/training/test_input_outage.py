"""A run whose records cannot be read for a while, or any more, or are exchanged under it."""

import dataclasses
import logging
import shutil
import threading
from pathlib import Path

import pytest
import tensorflow as tf
from tiny_models import GPT2_CONFIG
from tiny_run import tiny_run, train_tiny
from tiny_step import ONE, STEPS, TWO, random_rows, run_steps, step_of, strategy_of

from algpt2.errors import UserError
from algpt2.records.input_stream import InputStream
from algpt2.records.reading_errors import InputOutage
from algpt2.training import loop, stall_warning


@pytest.fixture
def run(records_folder, tmp_path):
    """It makes its ten steps in graph calls of 2, 1, 1, 2, 2, 1 and 1, and saves after 3, 6, 9 and 10."""
    return tiny_run(records_folder, tmp_path / "run")


def at_batch(monkeypatch, number, call):
    """Calls a function in a thread of the input pipeline, when it is about to give the batch with this number."""
    train_batches = loop.train_batches

    def pass_on(index, batch):
        if index == number:
            call()
        return batch

    def changed(record_set, batch_size, seed, first_batch, context):
        batches = train_batches(record_set, batch_size, seed, first_batch, context)
        spec, replicas = batches.element_spec, context.num_replicas_in_sync
        numbered = batches.enumerate().map(lambda i, batch: (first_batch + i // replicas, batch))
        through = numbered.map(lambda i, batch: tf.py_function(pass_on, [i, batch], spec.dtype))
        return through.map(lambda batch: tf.ensure_shape(batch, spec.shape))

    monkeypatch.setattr(loop, "train_batches", changed)


def final_tensors(run):
    folder = Path(run.model_dir) / "checkpoints" / "step_00000010"
    return [(folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


def test_a_run_says_that_it_waits_for_records_and_goes_on_when_they_come(run, monkeypatch, caplog):
    """Catches: a graph that does not count its batches, so that a wait for input looks like a wait for the devices."""
    told = threading.Event()

    class Listener(logging.Handler):
        def emit(self, record):
            if f"waiting for records of {run.train_records.folder}" in record.getMessage():
                told.set()

    monkeypatch.setattr(stall_warning, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(stall_warning, "SECONDS_BETWEEN_WARNINGS", 0.0)
    monkeypatch.setattr(stall_warning, "SECONDS_BETWEEN_LOOKS", 0.01)
    at_batch(monkeypatch, 7, told.wait)
    listener = Listener()
    logging.getLogger("absl").addHandler(listener)
    try:
        assert train_tiny(run)["step"] == 10
    finally:
        logging.getLogger("absl").removeHandler(listener)
    assert told.is_set()


def train_until_outage(run, monkeypatch, batch, strategy=None):
    """Trains until a batch cannot be read; returns the step of the newest checkpoint."""

    def fail():
        raise tf.errors.UnavailableError(None, None, f"HTTP request failed: {run.train_records.files[0]}")

    with monkeypatch.context() as patch:
        at_batch(patch, batch, fail)
        with pytest.raises(InputOutage, match="could not be read .* to go on from the last checkpoint"):
            train_tiny(run, strategy)
    return max(int(path.name.removeprefix("step_")) for path in Path(run.model_dir).glob("checkpoints/*"))


@pytest.mark.parametrize("devices", [ONE, TWO])
def test_an_outage_between_graph_calls_loses_no_step(run, tmp_path, monkeypatch, records_folder, devices):
    """Catches: steps that are lost, and what a step does before its batch is there, such as counting itself."""
    strategy = strategy_of(devices)
    assert train_until_outage(run, monkeypatch, 8, strategy) == 8
    train_tiny(run, strategy)
    uninterrupted = tiny_run(records_folder, tmp_path / "uninterrupted")
    train_tiny(uninterrupted, strategy)
    assert final_tensors(run) == final_tensors(uninterrupted)


def test_an_outage_within_a_graph_call_saves_nothing_that_may_be_half_a_step(run, monkeypatch):
    """The call of steps 4 and 5 begins at a step that is not saved anyway."""
    assert train_until_outage(run, monkeypatch, 5) == 3


@pytest.mark.parametrize("devices", [ONE, TWO])
def test_steps_count_each_batch_that_they_ask_for_and_get(devices):
    model_config = dataclasses.replace(GPT2_CONFIG, n_layer=1)
    before = step_of(devices, model_config, jit_compile=False).input_progress.counts()
    step, *_ = run_steps(devices, model_config, random_rows(), jit_compile=False)
    after = step.input_progress.counts()
    assert (after.asked - before.asked, after.came - before.came) == (STEPS, STEPS)


def test_an_input_that_is_reading_is_let_go_of_without_waiting_for_it():
    """Catches: a result that waits until TensorFlow gives up reading batches that nobody needs any more."""
    is_reading, may_end = threading.Event(), threading.Event()

    def read(index):
        if index:
            is_reading.set()
            may_end.wait()
        return index

    stream = InputStream(
        tf.data.Dataset.range(2).map(lambda index: tf.py_function(read, [index], tf.int64)).prefetch(2)
    )
    assert next(stream.iterator).numpy() == 0
    is_reading.wait()
    stream.close()
    may_end.set()  # is never reached if closing waits


def exchange_records(file):
    """Puts a shard's first record in the place of its second, as whole as all others."""
    data = Path(file).read_bytes()
    length = int.from_bytes(data[:8], "little") + 16
    assert len(data) % length == 0, "the records of the test have one size"
    Path(file).write_bytes(data[:length] + data[:length] + data[2 * length :])


@pytest.mark.parametrize("split", ["train", "val"])
def test_records_that_are_exchanged_for_others_of_the_same_size_end_the_run(
    records_folder, tmp_path, monkeypatch, split
):
    """A training shard is compared when the next epoch begins, a validation shard when the next validation does."""
    folder = shutil.copytree(records_folder, tmp_path / "records")
    run = tiny_run(str(folder), tmp_path / "run", batch_size=32)
    record_set = run.train_records if split == "train" else run.val_records
    assert run.train_records.records < 4 * 32, "the test needs several epochs"
    at_batch(monkeypatch, 1, lambda: exchange_records(record_set.files[0]))
    with pytest.raises(UserError, match=f"{record_set.files[0]} must have CRC32C .* copy it again"):
        train_tiny(run)
    assert not (Path(run.model_dir) / "checkpoints" / "step_00000009").exists(), "it is not left to the end"


def test_records_that_are_exchanged_in_the_last_epoch_are_noticed_before_the_last_checkpoint(
    records_folder, tmp_path, monkeypatch
):
    """Catches: a result of other records than the run says, because no epoch begins any more."""
    folder = shutil.copytree(records_folder, tmp_path / "records")
    run = tiny_run(str(folder), tmp_path / "run")
    assert run.epoch_of(9) == 0, "the test needs a run of one epoch"
    at_batch(monkeypatch, 1, lambda: exchange_records(run.train_records.files[0]))
    with pytest.raises(UserError, match=f"{run.train_records.files[0]} must have CRC32C .* copy it again"):
        train_tiny(run)
    assert not (Path(run.model_dir) / "checkpoints" / "step_00000010").exists()
    assert not (Path(run.model_dir) / "result.json").exists()


def test_records_that_are_copied_into_their_own_place_do_no_harm(records_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(records_folder, tmp_path / "records")
    run = tiny_run(str(folder), tmp_path / "run", batch_size=32)

    def copy_again():
        for file in run.data_paths():
            shutil.copy(Path(records_folder) / Path(file).name, file)

    at_batch(monkeypatch, 1, copy_again)
    assert train_tiny(run)["step"] == 10
