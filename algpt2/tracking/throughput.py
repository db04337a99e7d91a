"""Tokens per second, and how long is left."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator


@dataclasses.dataclass
class Measured:
    """How long a block took."""

    seconds: float = 0.0


class ThroughputMeter:
    """Tokens per second of the steps alone; the first graph call, which compiles, is left out."""

    def __init__(self, tokens_per_step: int):
        self.tokens_per_step = tokens_per_step
        self.calls = 0
        self.tokens = 0
        self.seconds = 0.0
        self._first_call_end: float | None = None

    @contextlib.contextmanager
    def measuring(self, n_steps: int) -> Iterator["Measured"]:
        """Counts the time of the block as that of `n_steps` steps; yields what holds it afterwards."""
        start, measured = time.perf_counter(), Measured()
        yield measured
        end = time.perf_counter()
        seconds = measured.seconds = end - start
        self.calls += 1
        if self.calls == 1:
            self._first_call_end = end
        else:
            self.tokens += n_steps * self.tokens_per_step
            self.seconds += seconds

    @property
    def step_fraction(self) -> float | None:
        """Part of the time since the first graph call that went into steps; the rest went into all else."""
        return self.seconds / (time.perf_counter() - self._first_call_end) if self.tokens else None

    @property
    def tokens_per_second(self) -> float | None:
        """None until something was measured."""
        return self.tokens / self.seconds if self.tokens else None


def format_seconds(seconds: float) -> str:
    """Returns '45 s', '12.3 min' or '3.4 h'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
