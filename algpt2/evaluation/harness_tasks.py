"""Tasks of lm-evaluation-harness, its own and those of local files, run on a model of ours."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from algpt2.errors import UserError, shown
from algpt2.evaluation.zero_shot import number
from algpt2.tables import aligned

if TYPE_CHECKING:  # The package is an extra, so the functions that need it import it.
    from lm_eval.tasks import TaskManager

    from algpt2.evaluation.harness_model import HarnessModel

SHOWN_RESULTS = ("results", "groups", "n-samples", "n-shot", "versions", "higher_is_better")
BOOTSTRAP_SAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class HarnessRequest:
    """What is asked of the harness.

    Attributes:
      names: of tasks, groups or tags, patterns with `*`, or paths of task files.
      include_path: a folder with more task files, or None.
      limit: how many examples of each task are taken, or None for all.
      num_fewshot: how many solved examples stand in front of each, or None for what the task says.

    Raises:
      UserError: a number is too small, or the folder does not exist.
    """

    names: tuple[str, ...]
    include_path: str | None = None
    limit: int | None = None
    num_fewshot: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit must be at least 1, received {shown(self.limit)}.")
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise UserError(f"--num_fewshot must be at least 0, received {shown(self.num_fewshot)}.")
        if self.include_path is not None and not Path(self.include_path).is_dir():
            raise UserError(f"--include_path must be a folder on this disk, received {shown(self.include_path)}.")


class LoadedTasks(NamedTuple):
    """The names of tasks that are known to load, and the harness's manager that loads them."""

    names: list[str]
    manager: "TaskManager"


def require_harness() -> None:
    """Raises `UserError` if lm-evaluation-harness is not installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "the package lm_eval (lm-evaluation-harness) must be installed, and it is not: run "
            "`pip install 'algpt2[eval]'`."
        )


def load_tasks(request: HarnessRequest) -> LoadedTasks:
    """Returns the tasks that a request names.

    Raises:
      UserError: no such task, or its file or its data cannot be read.
    """
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=request.include_path)
    names = [found for name in request.names for found in _matching(manager, name)]
    try:
        with _printing_on_stderr():
            manager.load(names)
    except Exception as error:  # A task's file is a program, and its data is downloaded: anything may be raised.
        raise UserError(
            f"every task of --tasks must load, and {', '.join(names)} did not ({type(error).__name__}: {error}): mend "
            "the task's file, or go where its data can be had."
        ) from error
    return LoadedTasks(names, manager)


def evaluate_tasks(model: "HarnessModel", tasks: LoadedTasks, request: HarnessRequest) -> dict[str, Any]:
    """Returns all that the harness returns, with `results` by task and `samples` example by example.

    Args:
      model: that answers.
      tasks: of `load_tasks`.
      request: of which the limit and the number of solved examples are taken.
    """
    from lm_eval import simple_evaluate

    with _printing_on_stderr():
        return simple_evaluate(
            model,
            tasks=tasks.names,
            task_manager=tasks.manager,
            limit=request.limit,
            num_fewshot=request.num_fewshot,
            bootstrap_iters=BOOTSTRAP_SAMPLES,
        )


def figures(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of an outcome that is compared between models, and the harness's version."""
    shown_results = {name: outcome[name] for name in SHOWN_RESULTS if name in outcome}
    return {"lm_eval_version": importlib.metadata.version("lm_eval"), **shown_results}


def table(outcome: Mapping[str, Any]) -> str:
    """Returns an outcome as a table for people, a line for each metric of each task.

    The harness has one of its own, whose columns have no names with some versions of the package that draws it.
    """
    rows = [("task", "solved examples", "filter", "metric", "value", "standard error")]
    for task, values in outcome["results"].items():
        for key, value in values.items():
            metric, comma, answer_filter = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                error = values.get(f"{metric}_stderr,{answer_filter}")
                shots = str(outcome["n-shot"].get(task, "-"))
                rows.append((task, shots, answer_filter, metric, number(value), number(error)))
    return aligned(rows)


def _printing_on_stderr() -> contextlib.AbstractContextManager:
    """The harness and its tasks print as they like, and stdout is for the result alone."""
    return contextlib.redirect_stdout(sys.stderr)


def _matching(manager: "TaskManager", name: str) -> list[str]:
    found = [name] if Path(name).is_file() else manager.match_tasks([name])
    if not found:
        raise UserError(
            f"--tasks must name tasks of lm-evaluation-harness or of --include_path, and {shown(name)} is none: "
            "`lm_eval ls tasks` lists its own."
        )
    return found
