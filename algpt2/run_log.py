"""What a run tells while it trains: log lines for people, `metrics.jsonl` for programs."""

from typing import Any

import numpy as np
from absl import logging

from algpt2.metrics import MetricsLog
from algpt2.run_plan import Run
from algpt2.throughput import ThroughputMeter, format_seconds
from algpt2.train_step import StepResults
from algpt2.validation import Losses, as_metrics


class RunLog:
    """Gathers what steps and validations come to. Every worker logs lines; only the chief writes into the folder."""

    def __init__(self, run: Run, first_step: int, is_chief: bool):
        self.run = run
        self.meter = ThroughputMeter(run.tokens_per_step)
        self._metrics = MetricsLog(run.model_dir, first_step) if is_chief else None
        self._losses: list[float] = []
        self._last_norm = float("nan")
        self._input_seconds = 0.0
        self._loop_seconds = 0.0

    def add_steps(self, results: StepResults, seconds: float) -> None:
        """Takes in the results of one graph call, which took so many seconds."""
        self._losses.extend(results.losses[~results.skipped])
        self._last_norm = float(results.norms[-1])
        self._input_seconds += results.input_seconds
        self._loop_seconds += seconds

    def write_steps(self, step: int, learning_rate: float, failed_checkpoints: int, skipped_steps: int) -> None:
        """Writes the mean loss of the steps since the last such line, with the last step's other figures.

        Steps that were skipped are left out of the mean; `skipped_steps` counts them since the run began.
        """
        loss, speed = float(np.mean(self._losses)) if self._losses else float("nan"), self.meter.tokens_per_second
        input_wait_fraction = self._input_seconds / self._loop_seconds
        self._losses, self._input_seconds, self._loop_seconds = [], 0.0, 0.0
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
            input_wait_fraction=input_wait_fraction,
            skipped_steps=skipped_steps,
            failed_checkpoints=failed_checkpoints,
        )

    def write_validation(self, step: int, validated: Losses) -> None:
        """Writes the losses of a validation."""
        for name, loss in validated.items():
            line = "step %d  %s loss %.4f  perplexity %.2f  bits per byte %.4f"
            logging.info(line, step, name, *loss.as_metrics().values())
        self._record(step=step, **as_metrics(validated))

    def _record(self, **metrics: Any) -> None:
        if self._metrics:
            self._metrics.write(**metrics)
