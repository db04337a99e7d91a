"""The processes that do the parts of a preparation, each with a tokenizer of its own."""

import concurrent.futures
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from algpt2 import interrupts
from algpt2.preparation.plan import Plan
from algpt2.preparation.work import Work
from algpt2.processes import START_METHOD, worker_processes
from algpt2.text.tokenizer import Tokenizer

SECONDS_BETWEEN_REPORTS = 0.2
Task = tuple[Any, ...]
Do = Callable[..., Any]

_worker: "tuple[Work, Any]"


class Pool(Protocol):
    """Whatever does tasks."""

    def run(self, do: Do, tasks: Iterable[Task], report: Callable[[int], Any]) -> list[Any]:
        """Returns what `do(work, report, *task)` returns for each task, in the order of the tasks."""


class InProcess:
    """Does every task in this process."""

    def __init__(self, work: Work):
        self._work = work

    def run(self, do: Do, tasks: Iterable[Task], report: Callable[[int], Any]) -> list[Any]:
        """Returns what `do(work, report, *task)` returns for each task, in the order of the tasks."""
        return [do(self._work, report, *task) for task in tasks]


class InProcesses:
    """Hands tasks to a pool of processes."""

    def __init__(self, pool: concurrent.futures.ProcessPoolExecutor, done: Any):
        self._pool = pool
        self._done = done

    def run(self, do: Do, tasks: Iterable[Task], report: Callable[[int], Any]) -> list[Any]:
        """Returns what `do(work, report, *task)` returns for each task, in the order of the tasks.

        Raises:
          Exception: what the first task that fails raised; no other begins then.
        """
        with interrupts.held_back():
            futures = [self._pool.submit(_do, do, task) for task in tasks]
        waiting = set(futures)
        while waiting:
            ended, waiting = concurrent.futures.wait(waiting, SECONDS_BETWEEN_REPORTS, "FIRST_EXCEPTION")
            report(self._taken())
            for future in ended:
                future.result()
        return [future.result() for future in futures]

    def _taken(self) -> int:
        with self._done.get_lock():
            count, self._done.value = self._done.value, 0
        return count


@contextlib.contextmanager
def workers(count: int, plan: Plan, tokenizer: Tokenizer, output: str) -> Iterator[Pool]:
    """Yields what does tasks in so many processes; for one it is this process."""
    if count == 1:
        yield InProcess(Work(plan, tokenizer, output))
        return
    done = multiprocessing.get_context(START_METHOD).Value("q", 0)
    with worker_processes(count, _begin, (done, plan, tokenizer.to_parts(), output)) as pool:
        yield InProcesses(pool, done)


def _begin(done: Any, plan: Plan, tokenizer_parts: tuple[Any, ...], output: str) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # The processes share the cores already.
    _worker = Work(plan, Tokenizer(*tokenizer_parts), output), done


def _do(do: Do, task: Task) -> Any:
    work, done = _worker

    def report(count: int) -> None:
        with done.get_lock():
            done.value += count

    return do(work, report, *task)
