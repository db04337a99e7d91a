import threading
import time

from algpt2.checkpoints.background_writer import CheckpointWriter


def test_a_write_does_not_hold_up_its_caller():
    release, written = threading.Event(), []
    writer = CheckpointWriter()
    writer.start(lambda: (release.wait(10), written.append(1)))
    assert writer.is_busy()
    assert written == []
    release.set()
    assert writer.wait()
    assert written == [1]
    assert not writer.is_busy()


def test_one_write_at_a_time_in_the_order_they_came():
    under_way, most, order = [], [], []

    def write(number):
        under_way.append(number)
        time.sleep(0.02)  # long enough for a second write to begin beside this one, if it could
        most.append(len(under_way))
        order.append(number)
        under_way.remove(number)

    writer = CheckpointWriter()
    for number in range(5):
        writer.start(lambda number=number: write(number))
    writer.wait()
    assert order == list(range(5))
    assert max(most) == 1


def test_a_write_that_fails_is_tried_again_until_it_succeeds():
    tries = []

    def write():
        tries.append(1)
        if len(tries) < 3:
            raise OSError("no space left")

    writer = CheckpointWriter(backoff_seconds=(0, 0))
    writer.start(write)
    assert writer.wait()
    assert (len(tries), writer.failures) == (3, 0)


def test_a_write_that_never_succeeds_is_given_up_counted_and_the_next_one_can_succeed():
    def fail():
        raise OSError("permission denied")

    writer = CheckpointWriter(backoff_seconds=(0,))
    writer.start(fail)
    assert not writer.wait()
    assert writer.failures == 1
    assert "permission denied" in str(writer.last_error)
    writer.start(lambda: None)
    assert writer.wait()
    assert writer.failures == 1
