"""What a run tells while it trains: log lines and a live line for people, figures for `sinks`."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from algpt2.devices.chips import peak_flops
from algpt2.evaluation.scores import Losses, as_metrics
from algpt2.model.sizes import training_flops_per_token
from algpt2.progress import LiveLine
from algpt2.runs.plan import Run
from algpt2.tracking.metrics import Sample, StepResults
from algpt2.tracking.sinks import Sink, open_sinks
from algpt2.tracking.throughput import ThroughputMeter, format_seconds


class RunLog:
    """Gathers what steps and validations come to, while entered. Every worker logs lines; only the chief has sinks."""

    def __init__(self, run: Run, first_step: int, is_chief: bool, n_replicas: int = 1, device_kind: str | None = None):
        """Takes the kind of device (a key of `flops.CHIPS`) for the utilisation, which without it is not told."""
        self.run = run
        self.first_step = first_step
        self.is_chief = is_chief
        self.meter = ThroughputMeter(run.tokens_per_step)
        self._peak_flops = peak_flops(n_replicas, device_kind) if device_kind else None
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
            for sink in open_sinks(self.run, self.first_step) if self.is_chief else ():
                stack.callback(sink.close)
                self._sinks.append(sink)
            self._live = LiveLine(self.first_step, self.run.train_config.total_steps)
            stack.callback(self._live.close)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
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

    def write_steps(
        self, step: int, learning_rate: float, checkpoint_metrics: Mapping[str, Any], skipped_steps: int
    ) -> None:
        """Writes the mean loss of the steps since the last such line, with the last step's other figures.

        Steps that were skipped are left out of the mean; `skipped_steps` counts them since the run began.
        """
        loss = float(np.mean(self._losses)) if self._losses else float("nan")
        input_wait_fraction = self._input_seconds / self._loop_seconds
        self._losses, self._input_seconds, self._loop_seconds = [], 0.0, 0.0
        logging.info(
            "step %d/%d  loss %.4f  gradient norm %.3f  learning rate %.3g  %s",
            step,
            self.run.train_config.total_steps,
            loss,
            self._last_norm,
            learning_rate,
            self._pace(),
        )
        self._write(
            step,
            tokens=step * self.run.tokens_per_step,
            loss=loss,
            gradient_norm=self._last_norm,
            learning_rate=learning_rate,
            **self._speed(),
            input_wait_fraction=input_wait_fraction,
            skipped_steps=skipped_steps,
            **checkpoint_metrics,
        )

    def write_validation(self, step: int, validated: Losses) -> None:
        """Writes the losses of a validation."""
        for name, loss in validated.items():
            line = "step %d  %s loss %.4f  perplexity %.2f  bits per byte %.4f"
            logging.info(line, step, name, *loss.as_metrics().values())
        self._write(step, **as_metrics(validated))

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Writes what the model of a step makes of the run's prompts."""
        for sample in samples:
            logging.info("step %d  sample %r -> %r", step, sample.prompt, sample.text)
        for sink in self._sinks:
            sink.write_samples(step, samples)

    def _write(self, step: int, **metrics: Any) -> None:
        for sink in self._sinks:
            sink.write(step, metrics)

    def _speed(self) -> dict[str, float | None]:
        """Returns the throughput so far, None before the second graph call, and the utilisation where it is known."""
        speed = self.meter.tokens_per_second
        figures = {"tokens_per_second": speed, "seconds_per_step": speed and self.run.tokens_per_step / speed}
        if self._peak_flops:
            flops = training_flops_per_token(self.run.model_config)
            figures["mfu"] = speed and speed * flops / self._peak_flops
        return figures

    def _pace(self) -> str:
        """Returns '12,171 tokens/s  3.4 min left', with the utilisation where it is known."""
        speed = self._speed()
        if speed["tokens_per_second"] is None:
            return "- tokens/s  - left"
        steps_left = self.run.train_config.total_steps - self._step
        utilisation = f"  MFU {speed['mfu']:.1%}" if "mfu" in speed else ""
        left = format_seconds(steps_left * speed["seconds_per_step"])
        return f"{speed['tokens_per_second']:,.0f} tokens/s{utilisation}  {left} left"
