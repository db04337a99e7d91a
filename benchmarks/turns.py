"""Contenders in processes of their own that work one at a time, in turn, so that a noisy machine slows all of them."""

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from algpt2.config.model import GPTConfig
from benchmarks.contenders import CONTENDERS


class Contender:
    """A process that has a compiled training step and waits for its turn."""

    def __init__(self, name: str, config: GPTConfig, batch_size: int):
        self.name = name
        self._connection, other = multiprocessing.Pipe()
        arguments = (name, config, batch_size, other)
        self._process = multiprocessing.get_context("spawn").Process(target=_work, args=arguments, daemon=True)
        self._process.start()
        self.seconds_to_first_step, self.peak_gigabytes = self._answer()

    def seconds_per_step(self, n_steps: int) -> float:
        """Returns the time of one step, measured over `n_steps`."""
        self._connection.send(n_steps)
        return self._answer() / n_steps

    def close(self) -> None:
        """Ends the process."""
        self._connection.send(0)
        self._process.join()

    def _answer(self) -> Any:
        answer = self._connection.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def peak_gigabytes() -> float:
    """Returns the largest resident size of this process so far, in GB.

    It is read from /proc, because `getrusage` gives a child the peak of its parent to begin with.
    """
    with open(f"/proc/{os.getpid()}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e9


def _work(name: str, config: GPTConfig, batch_size: int, connection: Connection) -> None:
    """Trains in a process of its own when the other end of the connection says so.

    It sends the seconds to the first step and the peak in GB. Then it receives numbers of steps and sends the seconds
    that each of them took, until it receives 0. An error is sent in place of an answer.
    """
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", KERAS_BACKEND="tensorflow")
    start = time.perf_counter()
    try:
        records = np.random.default_rng(0).integers(
            config.vocab_size, size=(batch_size, config.seq_len + 1), dtype=np.int32
        )
        train = CONTENDERS[name](config, records)
        train(1)
        connection.send((time.perf_counter() - start, peak_gigabytes()))
        while n_steps := connection.recv():
            start = time.perf_counter()
            train(n_steps)
            connection.send(time.perf_counter() - start)
    except Exception as error:
        connection.send(RuntimeError(f"{name}: {error}"))
