"""Where a run's figures and samples go: files in its folder, TensorBoard, Weights & Biases."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from absl import logging

from algpt2 import storage
from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError
from algpt2.runs.folder import METRICS_NAME, SAMPLES_NAME
from algpt2.storage.publisher import Publisher
from algpt2.tracking.metrics import Metrics, Sample, StepFile


class Sink(Protocol):
    """What a place for figures must do. Steps come in order."""

    def write(self, step: int, metrics: Metrics) -> None:
        """Takes in figures of a step; a value may be None, where it is not known."""

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Takes in the texts that the model of a step makes of the run's prompts."""

    def close(self) -> None:
        """Ends the writing."""


class FileSink:
    """`metrics.jsonl` and `samples.jsonl`. No checkpoint is written before them, unlike those of other sinks."""

    def __init__(self, model_dir: str, first_step: int, publisher: Publisher):
        self._metrics = StepFile(storage.join(model_dir, METRICS_NAME), first_step, publisher)
        self._samples = StepFile(storage.join(model_dir, SAMPLES_NAME), first_step, publisher)

    def write(self, step: int, metrics: Metrics) -> None:
        self._metrics.write(step, metrics)

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        self._samples.write(step, *(sample._asdict() for sample in samples))

    def close(self) -> None:
        pass


class BestEffortSink:
    """Another sink, whose failures do not end the run. Of failures in a row, the first is logged as a warning."""

    def __init__(self, name: str, open_sink: Callable[[], Sink]):
        self._name = name
        self._failing = False
        self._sink = self._try(open_sink)

    def write(self, step: int, metrics: Metrics) -> None:
        if self._sink:
            self._try(self._sink.write, step, metrics)

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        if self._sink:
            self._try(self._sink.write_samples, step, samples)

    def close(self) -> None:
        if self._sink:
            self._try(self._sink.close)

    def _try(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            value = action(*arguments)
            self._failing = False
            return value
        except UserError:
            raise
        except Exception as error:  # a service or another package may raise anything
            if not self._failing:
                logging.warning("%s failed (%s: %s); the run goes on", self._name, type(error).__name__, error)
            self._failing = True
            return None


def open_sinks(
    model_dir: str,
    tracking: TrackingConfig,
    first_step: int,
    description: Mapping[str, Any],
    publisher: Publisher,
) -> list[Sink]:
    """Returns the sinks that a run asks for. What a killed run wrote after `first_step` goes, or is hidden.

    Args:
      model_dir: the run's folder.
      tracking: which sinks.
      first_step: steps done when this process begins.
      description: the run's settings as plain JSON values, for those who show them.
      publisher: writes the files.

    Raises:
      UserError: a file of the run is damaged, or Weights & Biases refuses what it is asked.
    """
    sinks: list[Sink] = [FileSink(model_dir, first_step, publisher)]
    if tracking.tensorboard:
        folder = tracking.tensorboard_dir or storage.join(model_dir, "tensorboard")
        sinks.append(BestEffortSink("TensorBoard", lambda: _tensorboard(folder, first_step, publisher)))
    if project := tracking.wandb_project:
        sinks.append(BestEffortSink("Weights & Biases", lambda: _wandb(model_dir, project, description)))
    return sinks


def _tensorboard(folder: str, first_step: int, publisher: Publisher) -> Sink:
    from algpt2.tracking.tensorboard import TensorBoard

    return TensorBoard(folder, first_step, publisher)


def _wandb(model_dir: str, project: str, description: Mapping[str, Any]) -> Sink:
    from algpt2.tracking.wandb_log import WandbLog

    return WandbLog(model_dir, project, description)
