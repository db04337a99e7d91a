"""Whoever waits for the background writer waits until the write has ended."""

import threading

import pytest

from algpt2.checkpoints.background_writer import CheckpointWriter
from algpt2.storage.deadline import Deadline


@pytest.fixture
def writer():
    writer = CheckpointWriter()
    yield writer
    writer.give_up()


def slow_write(written):
    """Returns a write that ends only some time after it was begun."""
    ended = threading.Event()
    threading.Timer(0.2, ended.set).start()
    return lambda: (ended.wait(10), written.append(1))


def test_waiting_returns_when_the_write_has_ended(writer):
    written = []
    writer.start(slow_write(written))
    assert writer.wait(Deadline(20.0))
    assert written == [1]


def test_a_write_that_has_not_ended_in_time_has_not_succeeded(writer):
    written = []
    writer.start(slow_write(written))
    assert not writer.wait(Deadline(0.0))


def test_a_healthy_write_is_waited_for_before_the_next_save(writer):
    written = []
    writer.start(slow_write(written))
    writer.wait_while_healthy()
    assert written == [1]
