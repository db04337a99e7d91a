"""What a run tells while it trains: log lines for people, `metrics.jsonl` for programs."""

from typing import Any

import numpy as np
from absl import logging

from algpt2.metrics import MetricsLog
from algpt2.run_plan import Run
from algpt2.throughput import ThroughputMeter, format_seconds
from algpt2.train_step import StepResults
from algpt2.validation import Loss


class RunLog:
    """Gathers what steps and validations come to. Every worker logs lines; only the chief writes into the folder."""

    def __init__(self, run: Run, first_step: int, is_chief: bool):
        self.run = run
        self.meter = ThroughputMeter(run.tokens_per_step)
        self._metrics = MetricsLog(run.model_dir, first_step) if is_chief else None
        self._losses: list[float] = []
        self._last_norm = float("nan")

    def add_steps(self, results: StepResults) -> None:
        """Takes in the results of one graph call."""
        self._losses.extend(results.losses)
        self._last_norm = float(results.norms[-1])

    def write_steps(self, step: int, learning_rate: float, failed_checkpoints: int) -> None:
        """Writes the mean loss of the steps since the last such line, with the last step's other figures."""
        loss, speed = float(np.mean(self._losses)), self.meter.tokens_per_second
        self._losses = []
        total_steps = self.run.train_config.total_steps
        logging.info(
            "step %d/%d  loss %.4f  gradient norm %.3f  learning rate %.3g  %s tokens/s  %s left",
            step,
            total_steps,
            loss,
            self._last_norm,
            learning_rate,
            f"{speed:,.0f}" if speed else "-",
            format_seconds((total_steps - step) * self.run.tokens_per_step / speed) if speed else "-",
        )
        self._record(
            step=step,
            tokens=step * self.run.tokens_per_step,
            loss=loss,
            gradient_norm=self._last_norm,
            learning_rate=learning_rate,
            tokens_per_second=speed,
            failed_checkpoints=failed_checkpoints,
        )

    def write_validation(self, step: int, validated: Loss) -> None:
        """Writes the loss of a validation."""
        metrics = validated.as_metrics()
        logging.info("step %d  validation loss %.4f  perplexity %.2f  bits per byte %.4f", step, *metrics.values())
        self._record(step=step, **metrics)

    def _record(self, **metrics: Any) -> None:
        if self._metrics:
            self._metrics.write(**metrics)
