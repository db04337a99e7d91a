"""Every test has a time limit, which also ends one that hangs where Python's signal handlers are not reached."""

import subprocess
import sys

from interruption import ENDLESS_CALL
from places import REPOSITORY


def test_every_test_has_a_limit(request):
    assert 0 < float(request.config.getini("timeout")) <= 300


def test_a_test_that_hangs_inside_a_library_is_ended(tmp_path):
    (tmp_path / "test_that_hangs.py").write_text(f"{ENDLESS_CALL}\ndef test_that_hangs():\n    endless_call()\n")
    settings = ("-c", str(REPOSITORY / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *settings, "--timeout", "1", str(tmp_path)]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert outcome.returncode != 0
    assert "Timeout" in outcome.stderr + outcome.stdout
