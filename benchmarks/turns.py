"""Contenders in processes of their own that work one at a time, in turn, so that a noisy machine slows all of them."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

Work = Callable[[int], float | None]


class Turn(NamedTuple):
    """What one turn took in seconds, and what the work returned."""

    seconds: float
    result: float | None


class Contender:
    """A process that has made its work ready, compilation included, and waits for its turn."""

    def __init__(self, name: str, make: Callable[..., Work], *arguments: Any, first_units: int = 1):
        """Starts the process, and waits until some work has been done for the first time.

        Args:
          name: for tables.
          make: a function of a module's top level; it returns what is timed, which takes the units to do.
          arguments: of `make`.
          first_units: of the first work.
        """
        self.name = name
        self._connection, other = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(name, make, arguments, first_units, other), daemon=True
        )
        self._process.start()
        self.seconds_to_first, self.peak_gigabytes = self._answer()

    def take_turn(self, units: int) -> Turn:
        """Returns the time of so many units of work, and its result."""
        self._connection.send(units)
        return Turn(*self._answer())

    def peak_gigabytes_so_far(self) -> float:
        """Returns the largest resident size of the process, in GB."""
        return peak_gigabytes(self._process.pid)

    def close(self) -> None:
        """Ends the process."""
        self._connection.send(0)
        self._process.join()

    def _answer(self) -> Any:
        answer = self._connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def peak_gigabytes(process_id: int | None = None) -> float:
    """Returns the largest resident size so far, in GB, of a process, or of this one.

    It is read from /proc, because `getrusage` gives a child the peak of its parent to begin with.
    """
    with open(f"/proc/{process_id or os.getpid()}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def _work(
    name: str, make: Callable[..., Work], arguments: tuple[Any, ...], first_units: int, connection: Connection
) -> None:
    """Works in a process of its own when the other end of the connection says so.

    It sends the seconds until the first units were done and the peak in GB. Then it receives numbers of units and sends
    the seconds that they took and their result, until it receives 0. An error is sent in place of an answer.
    """
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
    start = time.perf_counter()
    try:
        work = make(*arguments)
        work(first_units)
        connection.send((time.perf_counter() - start, peak_gigabytes()))
        while units := connection.recv():
            start = time.perf_counter()
            result = work(units)
            connection.send((time.perf_counter() - start, result))
    except Exception as error:
        connection.send(RuntimeError(f"{name}: {error}"))
