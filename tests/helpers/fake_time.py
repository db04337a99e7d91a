"""Time that passes only while a background thread pauses, so that hours of retrying are over in an instant."""

import threading


class FakeTime:
    """A clock, and a pause for `Publisher`.

    The thread that made it waits really, for moments; any other pauses without waiting, and the clock goes on instead.

    Attributes:
      now: the time in seconds.
      pauses: how long each pause would have been.
      is_awaited: set once the thread that made it waits for another.
    """

    def __init__(self):
        self.now = 1000.0
        self.pauses = []
        self.is_awaited = threading.Event()
        self._foreground = threading.current_thread()

    def clock(self):
        return self.now

    def pause(self, condition, seconds):
        if threading.current_thread() is self._foreground:
            self.is_awaited.set()
            condition.wait(0.01)
        elif seconds is None:
            condition.wait(10)
        else:
            self.pauses.append(seconds)
            self.now += seconds
