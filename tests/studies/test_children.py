"""The processes of cells, and their logs."""

import sys

import pytest
from tiny_study import SPEC

from algpt2 import storage
from algpt2.config.tracking import TrackingConfig
from algpt2.studies.cells import CONFIRMATION, Cell
from algpt2.studies.children import Child
from algpt2.studies.orders import CellSettings, Orders
from algpt2.studies.spec import parse_spec

CELL = Cell("shared", 0.01, 11, CONFIRMATION)


@pytest.fixture
def start(records_folder, tmp_path):
    """Starts a Python program in the place of the one that trains."""
    settings = CellSettings((records_folder,), (records_folder,), {}, {}, TrackingConfig())
    order = Orders(parse_spec(SPEC), settings, str(tmp_path)).order(CELL)

    def start(program, log_path=None, threads=None):
        command = (sys.executable, "-c", program)
        return Child(CELL, order, log_path or CELL.log_path(str(tmp_path)), threads, command)

    return start


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("raise SystemExit(1)", "it ended with status 1 and wrote nothing"),
        ("import sys; print('a'); print('error: b', file=sys.stderr); sys.exit(2)", "b"),
        ("import sys; sys.exit('x' * 300)", f"{'x' * 200}... (300 characters)"),
        ("import os; os.abort()", "SIGABRT ended it"),
    ],
)
def test_why_a_process_ended_is_its_last_line_or_its_signal(start, program, reason):
    outcome = start(program).wait()
    assert (outcome.is_done, outcome.is_interrupted, outcome.diverged) == (False, False, False)
    assert outcome.reason == reason


def test_a_process_that_has_died_before_it_was_told_what_to_do_has_an_end_like_any_other(start):
    assert start("import os; os.close(0); raise SystemExit('gone')").wait().reason == "gone"


def test_cells_that_share_the_cores_have_so_many_threads(start, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    program = "import os, sys; print(os.environ.get('TF_NUM_INTRAOP_THREADS'), file=sys.stderr)"
    assert start(program, threads=3).wait().is_done
    assert start(program).wait().is_done
    assert storage.read_text(CELL.log_path(str(tmp_path))) == "3\nNone\n"


def test_a_log_on_cloud_storage_is_there_when_the_process_has_ended(start, bucket):
    path = CELL.log_path(f"{bucket}/study")
    start("import sys; print('one', file=sys.stderr)", path).wait()
    assert storage.read_text(path) == "one\n"
