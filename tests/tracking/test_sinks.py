"""Where figures go: into files, and to sinks that never end a run."""

import json

import pytest
from absl import logging

from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError
from algpt2.storage.deadline import Deadline
from algpt2.tracking import tensorboard, wandb_log
from algpt2.tracking.metrics import Sample
from algpt2.tracking.sinks import BestEffortSink, FileSink, open_sinks


@pytest.fixture
def warnings(monkeypatch):
    messages = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: messages.append(text % values))
    return messages


class Flaky:
    """Fails while `broken`."""

    broken = True

    def __init__(self):
        self.written = []

    def write(self, step, metrics):
        if self.broken:
            raise OSError("the wire is cut")
        self.written.append((step, metrics))

    def write_samples(self, step, samples):
        self.write(step, samples)

    def close(self):
        self.write(None, {})


def test_metrics_and_samples_are_lines_of_two_files_and_a_resumed_run_drops_later_ones(tmp_path, publisher):
    files = FileSink(str(tmp_path), 0, publisher)
    for step in (2, 4):
        files.write(step, {"loss": 1.0})
        files.write_samples(step, [Sample("a", "b"), Sample("c", "d")])
    assert publisher.wait(Deadline(20))
    FileSink(str(tmp_path), 2, publisher).write_samples(3, [Sample("e", "f")])
    assert publisher.wait(Deadline(20))
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 2, "prompt": "a", "text": "b"},
        {"step": 2, "prompt": "c", "text": "d"},
        {"step": 3, "prompt": "e", "text": "f"},
    ]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1]) == {"step": 4, "loss": 1.0}


def test_a_sink_that_fails_is_reported_once_and_used_again_when_it_has_recovered(warnings):
    flaky = Flaky()
    sink = BestEffortSink("The picture", lambda: flaky)
    for step in range(3):
        sink.write(step, {})
    assert warnings == ["The picture failed (OSError: the wire is cut); the run goes on"]
    flaky.broken = False
    sink.write(3, {"loss": 1.0})
    assert flaky.written == [(3, {"loss": 1.0})]
    flaky.broken = True
    sink.write_samples(4, [])
    sink.close()
    assert len(warnings) == 2, "a new row of failures is reported again"


def test_a_sink_that_cannot_be_opened_is_reported_and_left_out(warnings):
    def cannot():
        raise RuntimeError("no service")

    sink = BestEffortSink("The picture", cannot)
    sink.write(1, {})
    sink.write_samples(1, [])
    sink.close()
    assert warnings == ["The picture failed (RuntimeError: no service); the run goes on"]


def test_what_a_user_can_mend_is_still_an_error():
    def refuses():
        raise UserError("log in.")

    with pytest.raises(UserError, match="log in"):
        BestEffortSink("The picture", refuses)


def test_the_run_chooses_its_sinks(tmp_path, monkeypatch, publisher):
    monkeypatch.setattr(wandb_log, "WandbLog", lambda model_dir, project, description: Flaky())
    monkeypatch.setattr(tensorboard, "TensorBoard", lambda folder, first_step, publisher: Flaky())

    def opened(**fields):
        return len(open_sinks(str(tmp_path), TrackingConfig(**fields), 0, {}, publisher))

    assert opened(tensorboard=False) == 1
    assert opened() == 2
    assert opened(wandb_project="p") == 3


@pytest.mark.parametrize(("given", "expected"), [(None, "{run}/tensorboard"), ("{run}/../curves", "{run}/../curves")])
def test_tensorboards_files_are_in_the_run_or_in_a_folder_of_their_own(
    tmp_path, monkeypatch, publisher, given, expected
):
    opened = []
    monkeypatch.setattr(tensorboard, "TensorBoard", lambda folder, first_step, publisher: opened.append(folder))
    tracking = TrackingConfig(tensorboard_dir=given and given.format(run=tmp_path))
    open_sinks(str(tmp_path), tracking, 0, {}, publisher)
    assert opened == [expected.format(run=tmp_path)]
