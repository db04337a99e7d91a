"""What linters say of the files of tools/: nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

TOOLS = REPOSITORY / "tools"
SCRIPTS = sorted(TOOLS.glob("*.sh"))


def linter(name):
    """Returns the path of a program of the extra `dev`, or skips the test."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return shutil.which(name, path=path) or pytest.skip(f"needs {name}, of the extra dev")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_reads_every_script_and_it_may_be_run(script):
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True).stderr == ""
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")


def test_shellcheck_finds_nothing():
    found = subprocess.run([linter("shellcheck"), *SCRIPTS], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")


def test_hadolint_finds_nothing():
    found = subprocess.run([linter("hadolint"), TOOLS / "Dockerfile"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "")
