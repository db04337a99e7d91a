"""Training processes whose records lie on a Cloud Storage server that refuses or loses TensorFlow's reads of them."""

import subprocess
from pathlib import Path

import pytest
from training_process import start, write_config

from algpt2 import storage
from algpt2.records import input_pipeline
from algpt2.records.record_set import open_record_set

# TensorFlow reads an object at this place; its metadata are elsewhere, also for our own client.
DATA = "/bucket/records/train-"
LONG_SECONDS = 10_000.0
RETRIES = {
    "GCS_RETRY_CONFIG_MAX_RETRIES": "1",
    "GCS_RETRY_CONFIG_INIT_DELAY_TIME_US": "1000",
    "GCS_RETRY_CONFIG_MAX_DELAY_TIME_US": "1000",
}


@pytest.fixture
def records_on_cloud(cloud, records_folder):
    for file in Path(records_folder).iterdir():
        storage.write_bytes(f"gs://bucket/records/{file.name}", file.read_bytes())
    return "gs://bucket/records"


@pytest.fixture
def first_shard(records_on_cloud, monkeypatch):
    """The shard that training reads first: that of the first record, if no window of records is shuffled."""
    monkeypatch.setattr(input_pipeline, "SHUFFLE_WINDOW_RECORDS", 1)
    record_set = open_record_set([records_on_cloud], "train")
    return input_pipeline.record_ids(record_set, 1, 0, 0)[0].file


@pytest.mark.parametrize(
    ("fault", "status", "sentence"),
    [
        ({"status": 403}, 2, "TensorFlow must be permitted to read {file}, and is not"),
        ({"status": 404}, 2, "every shard must stay where it is while it is read, and {file} is gone"),
        ({"status": 503}, 1, "records must stay within reach, and {file} could not be read"),
    ],
    ids=["forbidden", "not found", "unavailable"],
)
def test_a_read_of_tensorflow_that_fails_ends_the_run_with_a_sentence_that_names_the_shard(
    cloud, records_on_cloud, first_shard, tmp_path, fault, status, sentence
):
    """The reads of the other shards take hours, and the process must not wait for them."""
    config_path = write_config(tmp_path / "config.json")
    environment = {**cloud.environment(), **RETRIES}
    flags = ("--no-jit_compile", "--no-tensorboard")
    with (
        cloud.failing("GET", part=DATA, delay_seconds=LONG_SECONDS),
        cloud.failing("GET", part=first_shard.removeprefix("gs:/"), **fault),
    ):
        process = start(records_on_cloud, tmp_path / "run", config_path, 5, *flags, environment=environment)
        try:
            output, errors = process.communicate(timeout=100)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    last_line = errors.splitlines()[-1]
    assert last_line.startswith("error: " + sentence.format(file=first_shard)), errors[-3000:]
    assert "checkpoint" in last_line
    assert "Traceback" not in errors
    assert (process.returncode, output) == (status, "")
