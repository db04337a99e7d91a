"""When the files of a run are written, when they may not be, and what its end says of those that are not."""

import types

import pytest

from algpt2.checkpoints.background_writer import CheckpointWriter
from algpt2.errors import TrainingStopped
from algpt2.storage import publisher as publisher_module
from algpt2.storage.deadline import Deadline
from algpt2.storage.publisher import NotWritten, Publisher
from algpt2.training import run_files
from algpt2.training.process import Claim
from algpt2.training.run_files import EndDeadline, publishing, require_hold


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(publisher_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(publisher_module, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(run_files, "END_SECONDS", 0.2)
    monkeypatch.setattr(run_files, "LAST_SECONDS", 0.2)


@pytest.fixture
def stop():
    return types.SimpleNamespace(received=None)


def claim_of(**lock):
    return Claim("runs/a", types.SimpleNamespace(**lock), record=None)


def fail():
    raise OSError("the wire is cut")


def test_a_folder_that_is_held_may_be_written_into_and_a_worker_without_a_claim_has_nothing_to_write():
    require_hold(claim_of(lost=False, confirmed=True))
    require_hold(None)


def test_a_folder_that_may_be_anothers_is_left_alone_for_now_and_one_that_is_anothers_for_good():
    with pytest.raises(NotWritten, match="lock of the folder could not be renewed"):
        require_hold(claim_of(lost=False, confirmed=False))
    with pytest.raises(TrainingStopped, match="runs/a was taken over"):
        require_hold(claim_of(lost=True, confirmed=False))


def test_the_end_of_a_run_waits_for_what_was_published(tmp_path, stop):
    publisher = Publisher("p")
    with publishing(publisher, stop):
        publisher.publish(str(tmp_path / "result.json"), [b"{}"])
    assert (tmp_path / "result.json").read_bytes() == b"{}"


def test_what_cannot_be_written_at_the_end_is_one_sentence_that_names_it(stop):
    def end():
        publisher = Publisher("p")
        with publishing(publisher, stop):
            publisher.put("result.json", fail)
            publisher.put("curves", fail, required=False)

    with pytest.raises(TrainingStopped, match=r"could not be written: result.json \(the wire is cut\): make room"):
        end()


def test_curves_alone_that_cannot_be_written_are_no_failure_of_the_run(stop, monkeypatch):
    monkeypatch.setattr(publisher_module, "OPTIONAL_SECONDS", 0.1)
    publisher = Publisher("p")
    with publishing(publisher, stop):
        publisher.put("curves", fail, required=False)


def test_what_ended_the_run_is_seen_although_files_are_missing_too(stop, caplog):
    def diverge():
        publisher = Publisher("p")
        with publishing(publisher, stop):
            publisher.put("metrics.jsonl", fail)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        diverge()
    assert "not written: metrics.jsonl (the wire is cut)" in caplog.text


def test_a_folder_that_is_lost_at_the_end_is_said_at_once(stop, monkeypatch):
    monkeypatch.setattr(run_files, "END_SECONDS", 1e9)
    publisher = run_files.create_publisher(claim_of(lost=True, confirmed=False))
    with pytest.raises(TrainingStopped, match="was taken over"), publishing(publisher, stop):
        publisher.put("result.json", lambda: None)


def test_a_checkpoint_waits_for_the_lines_of_the_run():
    publisher = Publisher("p")
    publisher.put("metrics.jsonl", fail)
    writer = run_files.create_checkpoint_writer(None, publisher)
    assert isinstance(writer, CheckpointWriter)
    writer.start(lambda: None)
    assert not writer.wait(Deadline(0.1))
    assert "metrics.jsonl is not written yet" in writer.last_failure()
    publisher.put("metrics.jsonl", lambda: None)
    assert writer.wait(Deadline(20))
    writer.give_up()
    publisher.close(Deadline(0))


def test_the_end_has_ten_minutes_and_one_from_a_signal_on(stop, monkeypatch):
    monkeypatch.undo()
    now = [0.0]
    deadline = EndDeadline(stop, clock=lambda: now[0])
    now[0] = 100.0
    assert deadline.seconds_left() == 500
    stop.received = "SIGTERM"
    assert deadline.seconds_left() == 60
    now[0] = 130.0
    assert deadline.seconds_left() == 30
    now[0] = 1000.0
    assert deadline.seconds_left() == 0


def test_a_signal_in_the_last_minute_does_not_lengthen_it(stop, monkeypatch):
    monkeypatch.undo()
    now = [0.0]
    deadline = EndDeadline(stop, clock=lambda: now[0])
    now[0] = 590.0
    stop.received = "SIGTERM"
    assert deadline.seconds_left() == 10
