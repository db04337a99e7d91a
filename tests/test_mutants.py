"""The deliberate mistakes in `tests/mutants` fit the code, and trying one tells a noticed mistake from a missed one."""

import json
import subprocess

import pytest
from mutant_lists import Mutant, fault_of, read_mutants
from mutant_trials import Outcome, try_mutants
from places import REPOSITORY

MUTANTS = read_mutants(REPOSITORY / "tests/mutants")

PACKAGE = "import time\n\ndef double(x):\n    return 2 * x\n"
TESTS = """
import algpt2
import pytest

def test_two_is_doubled():
    assert algpt2.double(2) == 4

@pytest.mark.parametrize("x", [0])
def test_zero_is_doubled(x):
    assert algpt2.double(x) == 0

def test_what_no_machine_can():
    pytest.skip("no machine can")

def test_that_fails_anyway():
    assert not algpt2.double(1)
"""


def mutant(by="return 3 * x", test="test_two_is_doubled", replace="return 2 * x"):
    return Mutant("It is wrong.", "algpt2/__init__.py", replace, by, (f"tests/test_double.py::{test}",))


@pytest.fixture
def repository(tmp_path):
    """A repository of another package of our package's name, so that taking the installed one is noticed."""
    for name, text in {"algpt2/__init__.py": PACKAGE, "tests/test_double.py": TESTS}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    return tmp_path


def outcomes(repository, *mutants, limit_seconds=60.0):
    return [trial.outcome for trial in try_mutants([*mutants], repository, 1, limit_seconds)]


def test_every_mutant_of_the_lists_fits_the_code_and_names_tests_that_exist():
    assert not [f"{mutant.mistake}: {fault}" for mutant in MUTANTS if (fault := fault_of(mutant, REPOSITORY))]
    assert len(MUTANTS) == len({(mutant.file, mutant.replace, mutant.by) for mutant in MUTANTS}), "one is listed twice"


def test_a_mistake_that_a_test_notices_is_told_from_one_that_none_does(repository):
    noticed, missed, broken = mutant(), mutant(test="test_zero_is_doubled[0]"), mutant(by="return 2 *")
    expected = [Outcome.KILLED, Outcome.SURVIVED, Outcome.BROKEN]
    assert outcomes(repository, noticed, missed, broken) == expected
    assert (repository / "algpt2/__init__.py").read_text() == PACKAGE


def test_a_skipped_test_notices_nothing_and_one_without_end_is_ended(repository):
    assert outcomes(repository, mutant(test="test_what_no_machine_can")) == [Outcome.SKIPPED]
    assert outcomes(repository, mutant(by="time.sleep(1000)"), limit_seconds=3) == [Outcome.HUNG]


def test_a_test_that_fails_without_the_mistake_too_is_refused(repository):
    with pytest.raises(ValueError, match="without a mistake the tests must pass, and were killed"):
        outcomes(repository, mutant(test="test_that_fails_anyway"))


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        (mutant(replace="return 5 * x"), "must stand once in algpt2/__init__.py, and stands there 0 times"),
        (mutant(replace="x"), "and stands there 2 times"),
        (mutant(by="return 2 * x"), "is replaced by itself"),
        (mutant(test="test_three"), "there is no test tests/test_double.py::test_three"),
        (Mutant("It is wrong.", "algpt2/other.py", "x", "y", ("tests/test_double.py::test",)), "there is no algpt2/o"),
        (Mutant("It is wrong.", "algpt2/__init__.py", "2 *", "3 *", ()), "it names no test"),
    ],
)
def test_a_mutant_that_does_not_fit_the_code_is_found_without_running_anything(repository, wrong, fault):
    assert fault in fault_of(wrong, repository)
    with pytest.raises(ValueError, match="It is wrong"):
        outcomes(repository, wrong)


def test_an_unknown_key_in_a_list_is_an_error(tmp_path):
    (tmp_path / "wrong.json").write_text(json.dumps([{"mistake": "It is wrong.", "files": "algpt2/other.py"}]))
    with pytest.raises(TypeError, match="files"):
        read_mutants(tmp_path)
