"""Writes in the background: none holds its caller, none is forgotten, and a long outage is a few lines in the log."""

import gc
import subprocess
import sys
import threading
import weakref

import pytest
from fake_time import FakeTime

from algpt2.errors import TrainingStopped
from algpt2.storage.deadline import Deadline
from algpt2.storage.publisher import NotWritten, Publisher

LONG = 20.0


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture
def publisher(time):
    publisher = Publisher("a test's publisher", clock=time.clock, pause=time.pause)
    yield publisher
    publisher.close(Deadline(0))


def failing(times, written, name="x", on_failure=lambda: None):
    """Returns a write that fails so many times, None for always, and then notes its name."""
    left = [times]

    def write():
        if left[0] is None or left[0] > 0:
            left[0] = left[0] and left[0] - 1
            on_failure()
            raise OSError("the wire\nis cut")
        written.append(name)

    return write


def test_a_file_is_written_whole_and_its_parts_may_grow_meanwhile(publisher, tmp_path):
    parts = [b"one\n"]
    publisher.publish(str(tmp_path / "file"), parts)
    parts.append(b"two\n")
    assert publisher.wait(Deadline(LONG))
    assert (tmp_path / "file").read_bytes() == b"one\n"


def test_a_caller_is_not_held_and_of_several_states_of_a_file_only_the_newest_is_written(publisher):
    begun, release, written = threading.Event(), threading.Event(), []
    publisher.put("x", lambda: (begun.set(), release.wait(10), written.append(0)))
    assert begun.wait(10)
    for number in (1, 2, 3):
        publisher.put("x", lambda number=number: written.append(number))
    assert written == []
    release.set()
    assert publisher.wait(Deadline(LONG))
    assert written == [0, 3]
    assert publisher.superseded == 2


def test_files_are_written_in_the_order_in_which_they_were_handed_over(publisher):
    begun, release, written = threading.Event(), threading.Event(), []
    publisher.put("first", lambda: (begun.set(), release.wait(10)))
    assert begun.wait(10)
    for name in "cab":
        publisher.put(name, lambda name=name: written.append(name))
    release.set()
    publisher.wait(Deadline(LONG))
    assert written == ["c", "a", "b"]


def test_an_outage_of_ten_minutes_is_a_warning_each_minute_and_a_line_at_its_end(publisher, time, caplog):
    """A warning for each attempt, or for each of the two files, would be more."""
    written, begin = [], time.now

    def write(name):
        if time.now - begin < 600:
            raise OSError("the wire\nis cut")
        written.append(name)

    with caplog.at_level("INFO"):
        publisher.put("a", lambda: write("a"))
        publisher.put("b", lambda: write("b"))
        while len(written) < 2:
            publisher.wait(Deadline(0.1))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    warnings = [message for level, message in lines if level == "WARNING"]
    assert 9 <= len(warnings) <= 11
    assert warnings[0] == "a cannot be written (the wire is cut); trying again"
    assert "s after the first failure (the wire is cut)" in warnings[1]
    assert [level for level, _ in lines].count("INFO") == 1
    assert "was written again after 6" in lines[-1][1]


def test_pauses_double_up_to_a_minute(publisher, time):
    written = []
    publisher.put("x", failing(9, written))
    while not written:
        publisher.wait_while_healthy(Deadline(0.01))
        publisher.put("other", lambda: None)  # wakes the publisher, which must not shorten a pause
    assert time.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_while_somebody_waits_pauses_are_short(publisher, time):
    written = []
    publisher.put("x", failing(20, written, on_failure=lambda: time.is_awaited.wait(10)))
    assert publisher.wait(Deadline(LONG))
    assert written == ["x"]
    assert time.pauses == [1, 2, 4] + [5] * 17


def test_a_wait_ends_at_its_deadline_and_tells_what_is_missing(publisher, time):
    publisher.put("x", failing(None, []))
    assert not publisher.wait(Deadline(600, time.clock))
    assert publisher.unwritten() == {"x": "the wire is cut"}
    assert publisher.close(Deadline(0)) == {"x": "the wire is cut"}
    assert publisher.close(Deadline(0)) == {}, "told once"


def test_who_requires_a_file_learns_of_the_next_failure_and_does_not_wait_for_the_deadline(publisher, time):
    publisher.put("curves", failing(None, []), required=False)
    publisher.put("x", failing(None, []))
    with pytest.raises(NotWritten, match="x is not written yet: the wire is cut"):
        publisher.require_written(Deadline(1e9, time.clock))
    publisher.put("x", lambda: None)
    publisher.require_written(Deadline(LONG))


def test_a_newer_state_of_a_file_that_fails_counts_as_written_with_it_and_not_before(publisher, time):
    """Otherwise a checkpoint could be committed before the lines up to its step."""
    begun, release, written = threading.Event(), threading.Event(), []

    def fail_once():
        begun.set()
        release.wait(10)
        raise OSError("cut")

    publisher.put("x", fail_once)
    assert begun.wait(10)
    publisher.put("x", failing(None, written))
    release.set()
    assert not publisher.wait(Deadline(50, time.clock))
    publisher.put("x", failing(0, written, "newest"))
    assert publisher.wait(Deadline(LONG))
    assert written == ["newest"]


def test_a_file_that_is_refused_does_not_hold_up_another(publisher):
    written = []
    publisher.put("refused", failing(None, []))
    for number in range(5):
        publisher.put("good", lambda number=number: written.append(number))
        publisher.wait(Deadline(0.05))
    assert written == list(range(5))


def test_a_file_rests_after_a_write_unless_somebody_waits_for_it(publisher, time):
    written = []
    for number in range(3):
        publisher.put("x", lambda number=number: written.append((number, time.now)), rest_seconds=30)
        publisher.wait_while_healthy(Deadline(LONG))
    assert written == [(0, 1000.0), (1, 1030.0), (2, 1060.0)]
    publisher.put("x", lambda: written.append((3, time.now)), rest_seconds=0)
    assert publisher.wait(Deadline(LONG))
    assert written[-1] == (3, 1060.0)


def test_a_file_that_somebody_waits_for_does_not_rest_because_it_has_grown_meanwhile(publisher, time):
    """The publisher is busy when the waiting begins, and then finds a newer state of the file that is waited for."""
    busy, release = threading.Event(), threading.Event()
    publisher.put("x", lambda: None)
    assert publisher.wait(Deadline(LONG))
    publisher.put("other", lambda: (busy.set(), release.wait(10)))
    assert busy.wait(10)
    publisher.put("x", lambda: None, rest_seconds=30)
    assert not publisher.wait(Deadline(0.05))
    publisher.put("x", lambda: None, rest_seconds=30)
    release.set()
    assert publisher.wait_while_healthy(Deadline(LONG))
    assert time.now == 1000.0


def test_what_is_not_required_is_not_waited_for_but_tried(publisher, time):
    tried = []
    publisher.put("curves", failing(None, [], on_failure=lambda: tried.append(time.now)), required=False)
    assert publisher.wait(Deadline(LONG))
    assert publisher.wait_while_healthy(Deadline(LONG))
    assert publisher.unwritten() == publisher.failures() == {}
    publisher.put("x", lambda: None)
    before = len(tried)
    while len(tried) == before:
        assert publisher.wait(Deadline(LONG))
    assert not publisher.wait(Deadline(20, time.clock), optional_too=True)


def test_what_may_not_be_written_any_more_is_dropped_and_waiting_for_it_ends(time):
    written = []

    def refuse():
        raise TrainingStopped("taken over")

    publisher = Publisher("p", require=refuse, clock=time.clock, pause=time.pause)
    publisher.put("x", lambda: written.append(1))
    assert not publisher.wait(Deadline(LONG))
    assert str(publisher.refusal) == "taken over"
    publisher.put("x", lambda: written.append(2))
    assert publisher.close(Deadline(LONG)) == {}
    assert written == []


class Snapshot:
    """Stands for the copy of a model."""


@pytest.mark.parametrize("fails", [False, True], ids=["written", "dropped"])
def test_what_was_written_or_dropped_takes_no_memory(fails):
    snapshot = Snapshot()
    kept = weakref.ref(snapshot)

    def write(snapshot=snapshot):
        if fails and snapshot:
            raise OSError("cut")

    publisher = Publisher("p")
    publisher.put("x", write)
    del write, snapshot
    publisher.wait(Deadline(LONG), until_failure=True)
    publisher.drop("x")
    deadline = Deadline(LONG)
    while kept() is not None:  # the thread lets go of it a moment later
        assert deadline.seconds_left(), "it is kept"
        gc.collect()
    assert publisher.superseded == fails
    publisher.close(Deadline(0))


STUCK = """
import threading, time
from algpt2.storage.deadline import Deadline
from algpt2.storage.publisher import Publisher
publisher = Publisher("stuck")
publisher.put("x", lambda: time.sleep(3600))
print(dict(publisher.close(Deadline(0.2))))
"""


def test_a_write_that_hangs_does_not_hold_the_process():
    ended = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "{'x': 'it takes too long'}\n", "")
