"""Worker processes that never outlive their parent, and leave Ctrl-C to it."""

import contextlib
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from algpt2 import interrupts

START_METHOD = "spawn"  # a fork of a process with threads may hang


def available_cpus() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def worker_processes(
    count: int | None = None, initializer: Callable[..., Any] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Yields a pool of processes, which are gone when the block has ended, however it ends.

    Hand in the first tasks within `interrupts.held_back()`: the processes start there, and Ctrl-C at a terminal is for
    their parent to answer.

    Args:
      count: how many; None is one for each CPU.
      initializer: called in each process before its first task, with `arguments`.
      arguments: of the initializer.
    """
    context = multiprocessing.get_context(START_METHOD)
    with ProcessPoolExecutor(count, context, initializer=_begin, initargs=(initializer, arguments)) as pool:
        try:
            yield pool
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.kill()  # The pool would wait for what they have begun.
            raise


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what a function returns in a process of its own, whose memory is free again when it has ended.

    Args:
      function: one of a module, because the process, which starts anew, finds it by its name.
      arguments: of the function, which can be pickled, as its result can.

    Raises:
      Exception: what the function raised.
      BrokenProcessPool: the process was ended from outside, as the system does where memory is short.
    """
    with worker_processes(1) as pool:
        with interrupts.held_back():
            result = pool.submit(function, *arguments)
        return result.result()


def _begin(initializer: Callable[..., Any] | None, arguments: tuple[Any, ...]) -> None:
    _end_with_parent()
    if initializer is not None:
        initializer(*arguments)


def _end_with_parent() -> None:
    """Ends this worker as soon as its parent is gone, which a worker that waits for work would never learn."""
    threading.Thread(target=_await_end_of_parent, daemon=True).start()


def _await_end_of_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
