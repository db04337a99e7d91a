"""What a run measures of its model while it trains. A new evaluation is added here, in `create_evaluations`, alone."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

from algpt2.devices.strategies import host_device
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.scores import Loss
from algpt2.evaluation.validation import Validator
from algpt2.optim.moving_average import averaged_weights
from algpt2.progress import hidden_bars
from algpt2.runs.plan import Run
from algpt2.tracking.metrics import EvaluationResult, Metrics
from algpt2.training.benchmarks import Benchmark
from algpt2.training.numerics_guard import NumericsGuard, gap_result
from algpt2.training.sampler import Prompts, Sampler
from algpt2.training.step import TrainStep


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Something that is measured of the model as it is at a step.

    name: what its log lines begin with.
    every_steps: it is due after each such number of steps and after the last one. None: before each checkpoint.
    run: measures; every worker calls it at the same step.
    """

    name: str
    every_steps: int | None
    run: Callable[[], EvaluationResult]

    def is_due(self, step: int, total_steps: int) -> bool:
        """Returns whether it is due after so many steps, whether or not a checkpoint follows."""
        return self.every_steps is not None and (step % self.every_steps == 0 or step == total_steps)

    def steps_until_due(self, step: int) -> int | None:
        """Returns how many steps there are from `step` to the next at which it is due; None if only checkpoints say."""
        return None if self.every_steps is None else self.every_steps - step % self.every_steps


class EvaluationTexts(NamedTuple):
    """What the evaluations of a run read beside its records, checked before the run begins."""

    prompts: Prompts
    benchmarks: tuple[Benchmark, ...]


def create_evaluations(
    run: Run, train_step: TrainStep, texts: EvaluationTexts, is_chief: bool
) -> tuple[Evaluation, ...]:
    """Returns the evaluations of a run, in the order in which those of one step are made and logged.

    Every worker gets the same ones, because the steps of a graph call end where one is due, on all workers alike.
    """
    evaluations = []
    if texts.prompts.ids:
        evaluations.append(_samples(run, train_step, texts.prompts, is_chief))
    if run.val_records:
        evaluations += _validations(run, train_step)
    if texts.benchmarks:
        evaluations += _benchmarks(run, train_step, texts.benchmarks)
    return tuple(evaluations)


def _samples(run: Run, train_step: TrainStep, prompts: Prompts, is_chief: bool) -> Evaluation:
    """Returns the samples, which the chief makes alone: nothing in them crosses to other workers."""
    sampler = None
    if is_chief:
        device = host_device(train_step.strategy)
        sampler = Sampler(train_step.model, prompts, device, run.train_config.jit_compile)

    def sample() -> EvaluationResult:
        samples = sampler() if sampler else []
        return EvaluationResult([f"{prompt!r} -> {text!r}" for prompt, text in samples], samples=samples)

    return Evaluation("sample", run.cadence.eval_every_steps, sample)


def _validations(run: Run, train_step: TrainStep) -> list[Evaluation]:
    """Returns those that need the validation records, which share one compiled validator."""
    config, cadence = run.train_config, run.cadence
    validator = Validator(train_step.strategy, train_step.model, run.val_records, config.batch_size, config.jit_compile)

    def validate() -> EvaluationResult:
        return loss_result(validator(), "val_")

    def validate_moving_average() -> EvaluationResult:
        with averaged_weights(train_step.model, train_step.optimizer):
            return loss_result(validator(), "ema_val_")

    evaluations = [Evaluation("validation", cadence.eval_every_steps, validate)]
    if config.ema_decay:
        evaluations.append(Evaluation("ema validation", cadence.eval_every_steps, validate_moving_average))
    if cadence.numerics_batches:
        evaluations.append(_numerics(run, NumericsGuard(validator, config.jit_compile)))
    return evaluations


def _numerics(run: Run, guard: NumericsGuard) -> Evaluation:
    batches, tolerance = run.cadence.numerics_batches, run.cadence.numerics_tolerance
    return Evaluation("the compute dtype", None, lambda: gap_result(guard.gap(batches), tolerance))


def _benchmarks(run: Run, train_step: TrainStep, benchmarks: tuple[Benchmark, ...]) -> list[Evaluation]:
    """Returns the benchmarks, which share one scorer. A pass has as many rows as the step has in one of its parts."""
    config = run.train_config
    rows = config.batch_size // config.accumulation_steps
    scorer = Scorer(train_step.model, rows, config.jit_compile, train_step.strategy)

    def measure(benchmark: Benchmark) -> EvaluationResult:
        with hidden_bars():
            return benchmark_result(benchmark.name, benchmark.measure(scorer))

    every_steps = run.cadence.eval_every_steps
    return [Evaluation(one.name, every_steps, functools.partial(measure, one)) for one in benchmarks]


def benchmark_result(name: str, figures: Metrics) -> EvaluationResult:
    """Returns a benchmark's figures as a log line and as metrics, whose names begin with that of the benchmark."""
    line = "  ".join(f"{figure.replace('_', ' ')} {value:.4f}" for figure, value in figures.items())
    return EvaluationResult((line,), metrics={f"{name}_{figure}": value for figure, value in figures.items()})


def loss_result(loss: Loss, prefix: str) -> EvaluationResult:
    """Returns a loss as a log line and as metrics, whose names begin with the prefix."""
    metrics = loss.as_metrics(prefix)
    line = "loss {:.4f}  perplexity {:.2f}  bits per byte {:.4f}".format(*metrics.values())
    return EvaluationResult((line,), metrics=metrics)
