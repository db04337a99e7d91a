"""A run whose records cannot be read for a while, or any more."""

import logging
import threading
from pathlib import Path

import pytest
import tensorflow as tf
from tiny_models import GPT2_CONFIG
from tiny_run import tiny_run, train_tiny
from tiny_step import ONE, STEPS, TWO, random_rows, run_steps, strategy_of

from algpt2.data.reading_errors import InputOutage
from algpt2.training import loop, stall_warning
from algpt2.training.input_stream import InputStream


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
    assert train_until_outage(run, monkeypatch, 7) == 6


@pytest.mark.parametrize("devices", [ONE, TWO])
def test_steps_count_each_batch_that_they_ask_for_and_get(devices):
    step, *_ = run_steps(devices, GPT2_CONFIG, random_rows())
    assert step.input_progress.counts() == (STEPS, STEPS)


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
