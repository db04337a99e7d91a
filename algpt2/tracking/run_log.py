"""What a run tells while it trains: log lines and a live line for people, figures for `sinks`."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import logging

from algpt2.progress import LiveLine
from algpt2.tracking.metrics import EvaluationResult, Metrics, StepResults
from algpt2.tracking.sinks import Sink
from algpt2.tracking.throughput import ThroughputMeter


class RunLog:
    """Gathers what steps and evaluations come to, while entered. Every worker logs lines; only the chief has sinks."""

    def __init__(
        self,
        first_step: int,
        total_steps: int,
        meter: ThroughputMeter,
        open_sinks: Callable[[], Sequence[Sink]] = tuple,
    ):
        """Takes what opens the sinks when the log is entered; without it there are none."""
        self.meter = meter
        self._first_step = first_step
        self._total_steps = total_steps
        self._open_sinks = open_sinks
        self._step = first_step
        self._losses: list[float] = []
        self._last_norm = float("nan")
        self._input_seconds = 0.0
        self._loop_seconds = 0.0
        self._sinks: list[Sink] = []
        self._live: LiveLine | None = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> "RunLog":
        with contextlib.ExitStack() as stack:
            for sink in self._open_sinks():
                stack.callback(sink.close)
                self._sinks.append(sink)
            self._live = LiveLine(self._first_step, self._total_steps)
            stack.callback(self._live.close)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._sinks, self._live = [], None

    def add_steps(self, results: StepResults, seconds: float) -> None:
        """Takes in the results of one graph call, which took so many seconds."""
        self._step += len(results.losses)
        self._losses.extend(results.losses[~results.skipped])
        self._last_norm = float(results.norms[-1])
        self._input_seconds += results.input_seconds
        self._loop_seconds += seconds
        if self._live:
            self._live.advance(len(results.losses), f"loss {results.losses[-1]:.4f}  {self._pace()}")

    def write_steps(self, learning_rate: float, skipped_steps: int, checkpoint_metrics: Metrics) -> None:
        """Writes the mean loss of the steps since the last such line, with the last step's other figures.

        Args:
          learning_rate: that of the last step's update.
          skipped_steps: how many were skipped since the run began; they are left out of the mean.
          checkpoint_metrics: what saving took since the last such line.
        """
        loss = float(np.mean(self._losses)) if self._losses else float("nan")
        input_wait_fraction = self._input_seconds / self._loop_seconds
        self._losses, self._input_seconds, self._loop_seconds = [], 0.0, 0.0
        logging.info(
            "step %d/%d  loss %.4f  gradient norm %.3f  learning rate %.3g  %s",
            self._step,
            self._total_steps,
            loss,
            self._last_norm,
            learning_rate,
            self._pace(),
        )
        metrics = {
            "tokens": self._step * self.meter.tokens_per_step,
            "loss": loss,
            "gradient_norm": self._last_norm,
            "learning_rate": learning_rate,
            **self.meter.metrics(),
            "input_wait_fraction": input_wait_fraction,
            "skipped_steps": skipped_steps,
            **checkpoint_metrics,
        }
        self._write(metrics)

    def write_evaluations(self, results: Mapping[str, EvaluationResult]) -> None:
        """Writes what the evaluations of the last step came to, by their names; all figures are one line of metrics."""
        metrics: dict[str, float | None] = {}
        for name, result in results.items():
            for line in result.lines:
                logging.info("step %d  %s %s", self._step, name, line)
            for warning in result.warnings:
                logging.warning("step %d  %s %s", self._step, name, warning)
            if result.samples:
                for sink in self._sinks:
                    sink.write_samples(self._step, result.samples)
            metrics |= result.metrics
        if metrics:
            self._write(metrics)

    def _write(self, metrics: Metrics) -> None:
        for sink in self._sinks:
            sink.write(self._step, metrics)

    def _pace(self) -> str:
        return self.meter.pace(self._total_steps - self._step)
