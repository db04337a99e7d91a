"""Trying deliberate mistakes: each is put into a copy of the repository, where its tests must fail."""

import contextlib
import dataclasses
import enum
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from mutant_lists import Mutant, fault_of

# All tests of the lists together end long before, or something is wrong without any mistake.
SOUND_LIMIT_SECONDS = 3600.0
WARM_PYTEST = str(Path(__file__).with_name("warm_pytest.py"))


class Outcome(enum.Enum):
    """How a trial ended. Only the first two mean that the tests notice the mistake."""

    KILLED = "killed"
    HUNG = "hung"  # until the time limit
    SURVIVED = "survived"
    SKIPPED = "skipped"  # this machine lacks what the tests need
    BROKEN = "broken"  # nothing was tested, for example because a file could not be imported


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one mutant: the outcome, how long it took, and the end of what pytest printed."""

    mutant: Mutant
    outcome: Outcome
    seconds: float
    output_tail: str

    @property
    def is_noticed(self) -> bool:
        """Whether the tests failed, or did not end."""
        return self.outcome in (Outcome.KILLED, Outcome.HUNG)


class Checkout:
    """A copy of a repository's tracked and new files, in which one mistake at a time is made; use it in a `with` block.

    One process of it imports slow modules once, and runs pytest in its children.
    """

    def __init__(self, repository: Path, folder: Path, preloaded: Sequence[str]):
        """Makes the copy below a new folder, and takes the names of the modules that all tests need."""
        self._folder, self._temporary = folder / "repository", folder / "temporary"
        self._temporary.mkdir(parents=True)
        _copy_files(repository, self._folder)
        self._process = subprocess.Popen(
            [sys.executable, WARM_PYTEST, *preloaded],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Checkout":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def test(self, tests: tuple[str, ...], limit_seconds: float) -> tuple[Outcome, str]:
        """Runs tests of the copy up to the first failure; returns the outcome and the end of what pytest printed."""
        arguments = ["-q", "-x", "-p", "no:cacheprovider", *tests]
        request = json.dumps({"arguments": arguments, "limit_seconds": limit_seconds})
        print(request, file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return _outcome(answer["status"], answer["output"]), answer["output"][-2000:]

    def try_mutant(self, mutant: Mutant, limit_seconds: float) -> Trial:
        """Makes a mistake, runs its tests, and takes the mistake back."""
        file, start = self._folder / mutant.file, time.monotonic()
        sound = file.read_text("utf-8")
        file.write_text(sound.replace(mutant.replace, mutant.by), "utf-8")
        try:
            outcome, output_tail = self.test(mutant.tests, limit_seconds)
        finally:
            file.write_text(sound, "utf-8")
        return Trial(mutant, outcome, time.monotonic() - start, output_tail)

    def _environment(self) -> dict[str, str]:
        """The copy's package comes before the installed one, which belongs to the repository.

        No bytecode is written: Python would take that of the sound file for a mistake of equal size made within the
        same second. The other settings are those of `tests/conftest.py`, because TensorFlow is imported before it.
        """
        return {
            **os.environ,
            "PYTHONPATH": str(self._folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DEBUG_TEMPROOT": str(self._temporary),
            "KERAS_BACKEND": "tensorflow",
            "JAX_PLATFORMS": "cpu",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }


def try_mutants(
    mutants: list[Mutant], repository: Path, jobs: int, limit_seconds: float, preloaded: Sequence[str] = ()
) -> Iterator[Trial]:
    """Yields the trial of each mutant, in the order of the list.

    Args:
      mutants: what to try.
      repository: which is copied once for each job, and not touched.
      jobs: how many to try at once.
      limit_seconds: after which the tests of one are ended.
      preloaded: modules to import once and not for each trial. The tested package may not be among them.

    Raises:
      ValueError: a mutant does not fit the code, or a test fails without any mistake.
    """
    faults = [f"{mutant.mistake}: {fault}" for mutant in mutants if (fault := fault_of(mutant, repository))]
    if faults:
        raise ValueError("; ".join(faults))
    checkouts: SimpleQueue[Checkout] = SimpleQueue()

    def try_one(mutant: Mutant) -> Trial:
        checkout = checkouts.get()
        try:
            return checkout.try_mutant(mutant, limit_seconds)
        finally:
            checkouts.put(checkout)

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="algpt2-mutants-"))
        for job in range(jobs):
            checkouts.put(stack.enter_context(Checkout(repository, Path(folder) / str(job), preloaded)))
        _require_sound(checkouts, mutants)
        yield from stack.enter_context(ThreadPoolExecutor(jobs)).map(try_one, mutants)


def _copy_files(repository: Path, folder: Path) -> None:
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=repository, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (repository / name).is_file():  # A file that is deleted and not yet committed is listed, too.
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(repository / name, folder / name)


def _require_sound(checkouts: SimpleQueue, mutants: list[Mutant]) -> None:
    """Runs all the tests once without a mistake; a test that fails anyway would seem to notice every one."""
    tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    checkout = checkouts.get()
    outcome, output_tail = checkout.test(tests, SOUND_LIMIT_SECONDS)
    checkouts.put(checkout)
    if outcome not in (Outcome.SURVIVED, Outcome.SKIPPED):
        raise ValueError(f"without a mistake the tests must pass, and were {outcome.value}:\n{output_tail}")


def _outcome(status: int | None, output: str) -> Outcome:
    """Returns what pytest's exit status means: 0 that all passed or were skipped, 1 that a test failed."""
    if status is None:
        return Outcome.HUNG
    if status == 0:
        return Outcome.SURVIVED if " passed" in output else Outcome.SKIPPED
    return Outcome.KILLED if status == 1 else Outcome.BROKEN
