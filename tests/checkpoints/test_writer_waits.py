"""Whoever waits for the background writer waits until the write has ended."""

import threading

from algpt2.checkpoints.background_writer import CheckpointWriter


def slow_write(written, number):
    """Returns a write that ends only some time after it was begun."""
    ended = threading.Event()
    threading.Timer(0.2, ended.set).start()
    return lambda: (ended.wait(10), written.append(number))


def test_waiting_returns_when_the_write_has_ended():
    written, writer = [], CheckpointWriter()
    writer.start(slow_write(written, 1))
    assert writer.wait()
    assert written == [1]


def test_a_second_write_begins_when_the_first_has_ended():
    written, writer = [], CheckpointWriter()
    writer.start(slow_write(written, 1))
    writer.start(lambda: written.append(2))
    writer.wait()
    assert written == [1, 2]


def test_a_healthy_write_is_waited_for_before_the_next_save():
    written, writer = [], CheckpointWriter()
    writer.start(slow_write(written, 1))
    assert writer.wait_while_healthy()
    assert written == [1]
