"""When a run says that no step has finished for long, and what it says that it waits for."""

import pytest

from algpt2.training import stall_warning
from algpt2.training.stall_warning import InputCounts, StallWatch

WAITS_FOR_INPUT = "waiting for records of gs://bucket/records"
WAITS_FOR_DEVICES = "waiting for the devices"


class Steps:
    """Steps of a run under a clock that a test sets; `look` is what the watch's own thread would call."""

    def __init__(self):
        self.now = 0.0
        self.counts = InputCounts(0, 0)
        self.watch = StallWatch(lambda: self.counts, "gs://bucket/records", lambda: self.now)

    def look_for(self, seconds):
        for _ in range(round(seconds)):
            self.now += 1
            self.watch.look()

    def make(self, n_steps, seconds_each):
        """One whole graph call."""
        with self.watch.steps(n_steps, "graph"):
            for _ in range(n_steps):
                self.counts = InputCounts(self.counts.asked + 1, self.counts.came + 1)
                self.look_for(seconds_each)

    def ask(self):
        self.counts = self.counts._replace(asked=self.counts.asked + 1)

    def get(self):
        self.counts = self.counts._replace(came=self.counts.came + 1)


@pytest.fixture
def steps():
    return Steps()


@pytest.fixture
def warnings(caplog):
    caplog.set_level("INFO")
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(("came", "said"), [(False, WAITS_FOR_INPUT), (True, WAITS_FOR_DEVICES)])
def test_steps_that_stand_still_for_30_seconds_are_told_with_what_they_wait_for(steps, warnings, came, said):
    steps.make(4, 1)
    steps.make(4, 1)
    with steps.watch.steps(4, "graph"):
        steps.ask()
        if came:
            steps.get()
        steps.look_for(30)
        assert warnings() == []
        steps.look_for(1)
    assert warnings() == [f"no step has finished for 30 s, which usually takes 1 s: {said}"]


def test_slow_steps_are_given_ten_times_the_usual(steps, warnings):
    steps.make(1, 8)
    steps.make(3, 8)
    with steps.watch.steps(3, "graph"):
        steps.look_for(79)
        assert warnings() == []
        steps.look_for(1)
        assert len(warnings()) == 1


def test_a_stall_is_told_once_a_minute_and_its_end_once(steps, warnings, caplog):
    steps.make(1, 1)
    with steps.watch.steps(2, "graph"):
        steps.ask()
        steps.look_for(151)
        assert [line.split()[5] for line in warnings()] == ["30", "90", "150"]
        steps.get()
        steps.look_for(2)
    assert [record.getMessage() for record in caplog.records].count("steps go on") == 1


def test_each_batch_that_comes_begins_the_time_anew(steps, warnings):
    """A graph call of many slow steps is no stall."""
    steps.make(1, 1)
    steps.make(20, 20)
    assert warnings() == []


def test_nothing_is_told_between_graph_calls(steps, warnings):
    """Evaluations and saves are made there, and may take long."""
    steps.make(1, 1)
    steps.look_for(1000)
    assert warnings() == []


def test_the_first_call_of_each_graph_compiles_it_for_as_long_as_it_takes(steps, warnings):
    for graph in ("graph of 128 positions", "graph of 256 positions"):
        with steps.watch.steps(1, graph):
            steps.ask()
            steps.get()
            steps.look_for(600)
    assert warnings() == []


def test_a_first_call_that_waits_for_its_first_batch_is_told(steps, warnings):
    with steps.watch.steps(1, "graph"):
        steps.look_for(600)  # the graph is built before it asks
        steps.ask()
        steps.look_for(31)
    assert warnings() == [f"no step has finished for 30 s: {WAITS_FOR_INPUT}"]


def test_a_call_that_fails_is_watched_no_longer(steps, warnings):
    steps.make(1, 1)
    with pytest.raises(ValueError, match="failed"), steps.watch.steps(1, "graph"):
        raise ValueError("failed")
    steps.look_for(600)
    assert warnings() == []


def test_the_watch_looks_by_itself_while_it_is_entered(monkeypatch, steps, warnings):
    monkeypatch.setattr(stall_warning, "SECONDS_BETWEEN_LOOKS", 0.001)
    with steps.watch, steps.watch.steps(1, "graph"):
        steps.ask()
        while not warnings():
            steps.now += 1
