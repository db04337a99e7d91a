"""Whole processes that train into a folder on Cloud Storage which fails: an outage is not a crash."""

import json
import os
import subprocess
import sys
import time

import pytest
from places import REPOSITORY
from training_process import TIMEOUT_SECONDS, write_config

from algpt2 import storage
from algpt2.tracking.metrics import read_metrics

MODEL_DIR = "gs://bucket/run"
STEPS = 600
OUTAGE_SECONDS = 4.0


class Training:
    """A process that trains, and what it has logged so far."""

    def __init__(self, records_folder, folder, cloud, end_seconds, *flags):
        self._log_path = folder / "log"
        command = [
            *(sys.executable, str(REPOSITORY / "tests/helpers/impatient_training.py"), str(end_seconds)),
            *("--train_path", records_folder, "--config_path", write_config(folder / "config.json")),
            *("--model_dir", MODEL_DIR, "--steps", str(STEPS), "--batch_size", "4", "--no-jit_compile"),
            *("--log_every_steps", "5", "--save_every_steps", "20", "--steps_per_loop", "5", *flags),
        ]
        with open(self._log_path, "w") as log:
            environment = {**os.environ, "STORAGE_EMULATOR_HOST": cloud.address}
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True)

    @property
    def log(self):
        return self._log_path.read_text()

    def steps_logged(self):
        return self.log.count("  gradient norm ")

    def wait_for(self, text, times=1):
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.log.count(text) < times:
            assert self.process.poll() is None, self.log[-3000:]
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.01)

    def finish(self, status=0):
        output, _ = self.process.communicate(timeout=TIMEOUT_SECONDS)
        assert self.process.returncode == status, self.log[-3000:]
        assert "Traceback" not in self.log
        return json.loads(output) if status == 0 else None

    def warnings(self):
        return [line for line in self.log.splitlines() if " warning: " in line]


@pytest.fixture
def train(records_folder, tmp_path, cloud):
    """Starts a training; returns it."""
    started = []

    def start(end_seconds, *flags):
        started.append(Training(records_folder, tmp_path, cloud, end_seconds, *flags))
        return started[-1]

    yield start
    for training in started:
        training.process.kill()
        training.process.wait()


def test_an_outage_costs_nothing_but_a_few_warnings(train, cloud):
    training = train(60)
    training.wait_for("  saved ")
    with cloud.failing():
        before = training.steps_logged()
        time.sleep(OUTAGE_SECONDS)
        assert training.steps_logged() > before, "it stands still"
    result = training.finish()
    assert storage.read_text(f"{MODEL_DIR}/result.json") == json.dumps(result, indent=2) + "\n"
    assert [line["step"] for line in read_metrics(MODEL_DIR)] == list(range(5, STEPS + 1, 5))
    kinds = [line.split(" warning: ")[1].split(" cannot be ")[0] for line in training.warnings()]
    assert sorted(kinds) == sorted(set(kinds)), "one of each kind within a minute"
    assert len(kinds) <= 3
    assert "was written again after" in training.log
    assert not storage.exists(f"{MODEL_DIR}/.lock")
