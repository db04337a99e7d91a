"""A preparation's work as Apache Beam pipelines, on this machine or on a cluster such as Google Cloud's Dataflow.

Beam hands the same tasks to its own workers that `pool.py` hands to processes, so the files are the same too.
"""

import contextlib
import dataclasses
import pickle
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from absl import logging

from algpt2 import storage
from algpt2.errors import PipelineFailed, UserError, shortened, shown
from algpt2.preparation.plan import Plan
from algpt2.preparation.pool import Do, Task
from algpt2.preparation.work import Work
from algpt2.preparation.work_folder import WORK_FOLDER
from algpt2.text.tokenizer import Tokenizer

INSTALL = "run `pip install -c constraints-beam.txt -e '.[beam]'` in an environment of its own"
METRICS = "algpt2"
DONE = "done"


@dataclasses.dataclass(frozen=True)
class BeamJob:
    """Where Beam runs the pipelines.

    Attributes:
      runner: the name of a Beam runner, such as "DirectRunner" or "DataflowRunner".
      options: of the runner, each as "name=value", or as "name" for one that is switched on.
    """

    runner: str
    options: tuple[str, ...] = ()

    def pipeline_options(self) -> Any:
        """Returns Beam's `PipelineOptions`.

        Raises:
          UserError: Apache Beam is not installed, there is no such runner, or it has no such option.
        """
        try:
            from apache_beam import Pipeline
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError as error:
            raise UserError(f"--beam_runner needs Apache Beam: {INSTALL} ({error}).") from error
        options = PipelineOptions([f"--runner={self.runner}", *(f"--{option}" for option in self.options)])
        known, given = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
        if unknown := sorted(set(given) - set(known)):
            raise UserError(f"beam_option must be name=value of an option that Beam knows, received {shown(unknown)}.")
        try:
            Pipeline(options=options)
        except (ValueError, ImportError, AttributeError) as error:
            raise UserError(
                "beam_runner must be one of Beam's, such as DirectRunner or DataflowRunner, with its options, "
                f"received {shown(self.runner)} with {shown(list(self.options))}: {' '.join(str(error).split())}"
            ) from error
        return options


class InBeam:
    """Does tasks in Beam pipelines, one pipeline for each kind of work."""

    def __init__(self, job: BeamJob, plan: Plan, tokenizer: Tokenizer, output: str):
        """Takes where to run, what to do, and the output folder, which each of Beam's workers must reach."""
        self._job = job
        self._options = job.pipeline_options()
        self._plan = plan
        self._tokenizer_parts = tokenizer.to_parts()
        self._output = output

    def run(self, do: Do, tasks: Iterable[Task], report: Callable[[int], Any]) -> list[Any]:
        """Returns what `do(work, report, *task)` returns for each task, in the order of the tasks.

        `report` is called when all of them are done.

        Raises:
          UserError: that of the first task that ended with one.
          PipelineFailed: Beam could not run the pipeline, or a worker failed in another way.
        """
        numbered = list(enumerate(tasks))
        if not numbered:
            return []
        with _results_folder(self._output) as results:
            report(self._run(_Doing(do, self._plan, self._tokenizer_parts, self._output, results), numbered))
            return [_result(results, number) for number, _ in numbered]

    def _run(self, doing: "_Doing", numbered: list[tuple[int, Task]]) -> int:
        import apache_beam as beam
        from apache_beam.metrics import MetricsFilter

        pipeline = beam.Pipeline(options=self._options)
        # Without the shuffle one worker would do all tasks, because they come from one constant.
        _ = pipeline | beam.Create(numbered) | beam.Reshuffle() | beam.ParDo(_as_do_fn(doing))
        with _told_in_one_sentence(self._job):
            running = pipeline.run()
            with _cancelled_if_interrupted(running):
                running.wait_until_finish()
        found = running.metrics().query(MetricsFilter().with_namespace(METRICS).with_name(DONE))["counters"]
        return sum(counter.result for counter in found)


@dataclasses.dataclass(frozen=True)
class _Doing:
    """One kind of work, with all that a worker on another machine needs for it."""

    do: Do
    plan: Plan
    tokenizer_parts: tuple[Any, ...]
    output: str
    results: str

    def begin(self) -> Work:
        return Work(self.plan, Tokenizer(*self.tokenizer_parts), self.output)

    def finish(self, work: Work, number: int, task: Task) -> int:
        """Does a task, keeps its result or its error, and returns how much of the work that was."""
        done = []
        try:
            kept = True, self.do(work, done.append, *task)
        except UserError as error:
            kept = False, error
        storage.write_bytes(_result_path(self.results, number), pickle.dumps(kept))
        return sum(done)


def _as_do_fn(doing: _Doing) -> Any:
    """Returns Beam's form of it, whose class cannot be made before Beam is imported."""
    import apache_beam as beam
    from apache_beam.metrics import Metrics

    class Do(beam.DoFn):
        def __init__(self, doing: _Doing):
            self._doing = doing
            self._done = Metrics.counter(METRICS, DONE)

        def setup(self) -> None:
            self._work = self._doing.begin()

        def process(self, numbered: tuple[int, Task]) -> None:
            self._done.inc(self._doing.finish(self._work, *numbered))

    return Do(doing)


@contextlib.contextmanager
def _results_folder(output: str) -> Iterator[str]:
    folder = storage.join(output, WORK_FOLDER, f"beam-{uuid.uuid4().hex}")
    try:
        yield folder
    finally:
        with contextlib.suppress(FileNotFoundError):
            storage.of(folder).delete_folder(folder)


def _result(folder: str, number: int) -> Any:
    """Returns the result of a task. Only this run knows the folder's name, so nobody else's pickle is read."""
    ended_well, value = pickle.loads(storage.read_bytes(_result_path(folder, number)))
    if not ended_well:
        raise value
    return value


def _result_path(folder: str, number: int) -> str:
    return storage.join(folder, f"{number:08d}.pickle")


@contextlib.contextmanager
def _told_in_one_sentence(job: BeamJob) -> Iterator[None]:
    """Turns whatever Beam raises, of which each runner has its own kinds, into a `PipelineFailed`."""
    try:
        yield
    except Exception as error:
        logging.debug("%s", traceback.format_exc())
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PipelineFailed(
            f"a Beam pipeline must run to its end, and that of {job.runner} ended with {shortened(lines[-1])}: the "
            "same command goes on with what is done, and --verbosity 1 tells more."
        ) from error


@contextlib.contextmanager
def _cancelled_if_interrupted(running: Any) -> Iterator[None]:
    """Ends a job on other machines when this process is told to end."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            running.cancel()
        raise


def job_of(runner: str | None, options: Sequence[str]) -> BeamJob | None:
    """Returns the job that two flags ask for, None where neither is given.

    Raises:
      UserError: options without a runner.
    """
    if runner is None and options:
        raise UserError("--beam_option needs a runner, and none is given: add --beam_runner, such as DirectRunner.")
    return None if runner is None else BeamJob(runner, tuple(options))
