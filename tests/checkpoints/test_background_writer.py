import threading

import pytest

from algpt2.checkpoints import background_writer
from algpt2.checkpoints.background_writer import CheckpointWriter
from algpt2.storage import publisher
from algpt2.storage.deadline import Deadline
from algpt2.storage.publisher import NotWritten, Publisher

LONG = 20.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(publisher, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(publisher, "LONGEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def writer():
    writer = CheckpointWriter()
    yield writer
    writer.give_up()


def fail():
    raise OSError("permission denied")


def wait_for_failure(writer):
    while "permission denied" not in writer.last_failure():
        writer.wait(Deadline(0.01))


def test_a_write_does_not_hold_up_its_caller(writer):
    release, written = threading.Event(), []
    writer.start(lambda: (release.wait(10), written.append(1)))
    assert written == []
    release.set()
    assert writer.wait(Deadline(LONG))
    assert written == [1]


def test_a_write_that_fails_is_tried_again_until_it_succeeds(writer):
    tries = []

    def write():
        tries.append(1)
        if len(tries) < 10:
            raise OSError("no space left")

    writer.start(write)
    assert writer.wait(Deadline(LONG))
    assert (len(tries), writer.failures) == (10, 0)


def test_a_newer_checkpoint_takes_the_place_of_one_that_fails_and_the_older_is_counted(writer):
    written = []
    writer.start(fail)
    wait_for_failure(writer)
    writer.start(lambda: written.append("newer"))
    assert writer.wait(Deadline(LONG))
    assert written == ["newer"]
    assert writer.failures == 1


def test_a_healthy_write_is_waited_for_before_the_next_copy_is_made_and_a_failing_one_is_not(writer):
    written = []
    release = threading.Timer(0.2, lambda: None)
    release.start()
    writer.start(lambda: (release.join(), written.append(1)))
    writer.wait_while_healthy()
    assert written == [1]
    writer.start(fail)
    wait_for_failure(writer)
    writer.wait_while_healthy()


def test_a_write_that_hangs_is_waited_for_a_minute_at_most(writer, monkeypatch):
    monkeypatch.setattr(background_writer, "LONGEST_WAIT_SECONDS", 0.1)
    release = threading.Event()
    writer.start(lambda: release.wait(10))
    writer.wait_while_healthy()
    assert not release.is_set()
    assert not writer.wait(Deadline(0.05))
    assert writer.last_failure() == "it takes too long"
    release.set()
    assert writer.wait(Deadline(LONG))


def test_what_must_be_so_before_a_checkpoint_is_asked_before_each_attempt():
    answers, order = [NotWritten("not the holder"), None], []

    def require():
        order.append("asked")
        if answer := answers.pop(0):
            raise answer

    writer = CheckpointWriter(require)
    writer.start(lambda: order.append("written"))
    assert writer.wait(Deadline(LONG))
    assert order == ["asked", "asked", "written"]
    writer.give_up()


def test_a_checkpoint_is_written_after_the_lines_that_came_before_it():
    lines, order, away = Publisher("lines"), [], [True]

    def write_lines():
        if away:
            raise OSError("permission denied")
        order.append("lines")

    lines.put("metrics.jsonl", write_lines)
    writer = CheckpointWriter(lines=lines)
    writer.start(lambda: order.append("checkpoint"))
    wait_for_failure(writer)
    assert order == []
    away.clear()
    assert writer.wait(Deadline(LONG))
    assert order == ["lines", "checkpoint"]
    writer.give_up()
    lines.close(Deadline(0))


def test_nobody_waits_for_a_checkpoint_once_lines_fail():
    """Lines are small and fail first in an outage, when an attempt for a checkpoint may still take a while to fail."""
    lines, begun, release, written = Publisher("lines"), threading.Event(), threading.Event(), []
    writer = CheckpointWriter(lines=lines)
    writer.start(lambda: (begun.set(), release.wait(10), written.append(1)))
    assert begun.wait(10)
    lines.put("metrics.jsonl", fail)
    writer.wait_while_healthy()
    assert written == []
    release.set()
    writer.give_up()
    lines.close(Deadline(0))


def test_a_writer_that_gave_up_holds_nobody(writer):
    writer.start(fail)
    writer.give_up()
    assert writer.close(Deadline(LONG))
