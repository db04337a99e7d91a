"""Tokens per second, the part of the devices' peak that they amount to, and how long is left."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator


@dataclasses.dataclass
class Measured:
    """How long a block took, once it has ended."""

    seconds: float = 0.0


class ThroughputMeter:
    """Tokens per second of the steps alone; the first graph call, which compiles, is left out."""

    def __init__(
        self,
        tokens_per_step: int,
        peak_tokens_per_second: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        """Takes the throughput at which the devices would reach their peak, which is None where that is not known."""
        self.tokens_per_step = tokens_per_step
        self.peak_tokens_per_second = peak_tokens_per_second
        self.calls = 0
        self.tokens = 0
        self.seconds = 0.0
        self._clock = clock
        self._first_call_end: float | None = None

    @contextlib.contextmanager
    def measuring(self, n_steps: int) -> Iterator[Measured]:
        """Counts the time of the block as that of `n_steps` steps; yields what holds it afterwards."""
        start, measured = self._clock(), Measured()
        yield measured
        end = self._clock()
        measured.seconds = end - start
        self.calls += 1
        if self.calls == 1:
            self._first_call_end = end
        else:
            self.tokens += n_steps * self.tokens_per_step
            self.seconds += measured.seconds

    @property
    def step_fraction(self) -> float | None:
        """Part of the time since the first graph call that went into steps; the rest went into all else."""
        return self.seconds / (self._clock() - self._first_call_end) if self.tokens else None

    @property
    def tokens_per_second(self) -> float | None:
        """None until something was measured."""
        return self.tokens / self.seconds if self.tokens else None

    def metrics(self) -> dict[str, float | None]:
        """Returns the throughput so far, None before the second graph call, and the utilisation where it is known."""
        speed = self.tokens_per_second
        figures = {"tokens_per_second": speed, "seconds_per_step": speed and self.tokens_per_step / speed}
        if self.peak_tokens_per_second:
            figures["mfu"] = speed and speed / self.peak_tokens_per_second
        return figures

    def pace(self, steps_left: int) -> str:
        """Returns '12,171 tokens/s  3.4 min left', with the utilisation where it is known."""
        figures = self.metrics()
        if figures["tokens_per_second"] is None:
            return "- tokens/s  - left"
        utilisation = f"  MFU {figures['mfu']:.1%}" if "mfu" in figures else ""
        left = format_seconds(steps_left * figures["seconds_per_step"])
        return f"{figures['tokens_per_second']:,.0f} tokens/s{utilisation}  {left} left"


def format_seconds(seconds: float) -> str:
    """Returns '45 s', '12.3 min' or '3.4 h'."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
