"""Running a study with processes that train nothing: order, failures, signals, and the same command again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_study
import pytest
from fake_cell import CRASHING, DIVERGING, KILLED, STARTED, WAITING, bits_per_byte
from fake_study import run_fake_study
from tiny_study import SELECTING, SPEC

from algpt2.errors import UserError
from algpt2.storage.folder_lock import locked
from algpt2.studies.results import read_study
from algpt2.studies.runner import require_jobs

TIMEOUT_SECONDS = 60
# A program that would be a failure of every cell that it is started for.
NO_COMMAND = (sys.executable, "-c", "raise SystemExit('it was started')")


@pytest.fixture
def write(tmp_path):
    """Writes a spec with other rates; returns its path."""

    def write(rates, text=SPEC):
        path = tmp_path / "study.toml"
        path.write_text(text.replace("[1e-2]", rates).replace("[1e-3, 3e-3]", rates))
        return path

    return write


def test_rates_are_chosen_then_confirmed_and_the_grid_that_grew_is_told(write, records_folder, tmp_path):
    spec = write("[0.003, 0.01]", SELECTING.replace("[1, 2]", "[1]").replace("[11, 12]", "[11]"))
    summary = run_fake_study(spec, records_folder, tmp_path / "out", jobs=2)
    rates = (0.003, 0.01, 0.0333333, 0.111111)
    assert summary["rates"]["gpt2"] == {
        **{"rates": rates, "chosen": 0.0333333},
        **{"at_edge": False, "extra_rates": rates[2:]},
    }
    assert (summary["planned"], summary["finished"], summary["failed"]) == (10, 10, [])
    study = read_study(str(tmp_path / "out"))
    assert study.chosen_rates == {"gpt2": 0.0333333, "shared": 0.0333333}
    for result in study.results:
        assert result.val_bits_per_byte == bits_per_byte(result.cell.learning_rate, result.cell.seed)
    assert "a line of chatter" in (tmp_path / "out" / "cells" / "gpt2" / "lr-0.01-seed-1.log").read_text()


def test_the_same_command_again_starts_nothing_and_says_the_same(write, records_folder, tmp_path):
    spec, output = write("[0.01]"), tmp_path / "out"
    first = run_fake_study(spec, records_folder, output, only=("gpt2",))
    assert (first["planned"], first["finished"]) == (2, 2)
    lost = output / "results" / "gpt2" / "lr-0.01-seed-11.json"
    content = lost.read_bytes()
    lost.unlink()  # as if the process had been killed between a run's end and this
    again = run_fake_study(spec, records_folder, output, only=("gpt2",), command=NO_COMMAND)
    assert again == first
    assert lost.read_bytes() == content


@pytest.mark.parametrize(
    ("rate", "reason", "is_tried_again"),
    [
        (CRASHING, "ValueError: the disk is full", True),
        (KILLED, "SIGKILL ended it after it wrote: a line of chatter", True),
        (DIVERGING, "the loss is not finite", False),
    ],
)
def test_a_cell_that_fails_is_told_and_the_rest_goes_on(
    rate, reason, is_tried_again, write, records_folder, tmp_path, caplog
):
    text = SPEC.replace("[11, 12]", "[11]").replace("[arms.gpt2]", f"[arms.gpt2]\nlearning_rates = [{rate}]")
    spec, output = write("[0.01]", text), tmp_path / "out"
    summary = run_fake_study(spec, records_folder, output)
    assert summary["failed"] == [{"cell": f"gpt2/lr-{rate}-seed-11", "reason": reason}]
    assert summary["finished"] == 1
    assert f"gpt2/lr-{rate}-seed-11 failed: {reason}" in caplog.text
    failed = next(one for one in read_study(str(output)).results if one.status == "failed")
    assert (failed.reason, failed.diverged) == (reason, not is_tried_again)
    again = run_fake_study(spec, records_folder, output, command=NO_COMMAND)
    assert again["failed"][0]["reason"] == ("it was started" if is_tried_again else reason)


def test_a_cells_folder_that_holds_another_run_is_refused(write, records_folder, tmp_path):
    spec, output = write("[0.01]"), tmp_path / "out"
    run_fake_study(spec, records_folder, output, only=("gpt2",))
    run_file = output / "cells" / "gpt2" / "lr-0.01-seed-12" / "run.json"
    fields = json.loads(run_file.read_text())
    fields["train_config"]["weight_decay"] = 0.0
    run_file.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="lr-0.01-seed-12 holds another: move it away"):
        run_fake_study(spec, records_folder, output)
    assert not (output / "cells" / "shared").exists()


def test_checkpoints_of_finished_cells_are_deleted_where_that_is_asked_for(write, records_folder, tmp_path):
    spec, output = write("[0.01]"), tmp_path / "out"
    run_fake_study(spec, records_folder, output, only=("gpt2",))
    checkpoint = output / "cells" / "gpt2" / "lr-0.01-seed-11" / "checkpoints" / "step_00000020"
    checkpoint.mkdir(parents=True)
    (checkpoint / "COMMITTED").touch()
    run_fake_study(spec, records_folder, output, only=("gpt2",))
    assert checkpoint.exists()
    run_fake_study(spec, records_folder, output, only=("gpt2",), deletes_checkpoints=True)
    assert not checkpoint.parent.exists()
    assert (checkpoint.parent.parent / "result.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_lets_the_cells_save_and_the_command_can_go_on(
    number, write, records_folder, tmp_path
):
    """As Ctrl-C at a terminal does, which must reach a cell once: a second signal would end it unsaved."""
    output = tmp_path / "out"
    command = [sys.executable, fake_study.__file__, write(f"[{WAITING}]"), records_folder, output]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(output / "cells" / "gpt2" / f"lr-{WAITING}-seed-11" / STARTED, process)
    os.killpg(process.pid, number)
    stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert (process.returncode, stdout) == (75, "")
    assert f"error: {number.name} stopped the study with 4 cells left" in stderr
    assert not list((output / "results").rglob("*.json"))


def wait_for(path: Path, process):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.01)


def test_a_folder_in_use_and_one_of_something_else_are_refused(write, records_folder, tmp_path):
    spec, output = write("[0.01]"), tmp_path / "out"
    run_fake_study(spec, records_folder, output, only=("gpt2",))
    with locked(str(output)), pytest.raises(UserError, match="one process at a time may run a study in a folder"):
        run_fake_study(spec, records_folder, output)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="must be new or empty"):
        run_fake_study(spec, records_folder, tmp_path / "other")
    with pytest.raises(UserError, match="holds one of other tokens: name another"):
        run_fake_study(write("[0.01]", SPEC.replace("1280", "640")), records_folder, output)


@pytest.mark.parametrize(("jobs", "tpu", "sentence"), [(0, None, "from 1 to"), (2, "local", "must be 1 with --tpu")])
def test_a_number_of_jobs_that_cannot_be_is_refused(jobs, tpu, sentence):
    with pytest.raises(UserError, match=sentence):
        require_jobs(jobs, tpu)


def test_a_cluster_of_workers_is_refused(monkeypatch):
    monkeypatch.setitem(os.environ, "TF_CONFIG", "{}")
    with pytest.raises(UserError, match="TF_CONFIG"):
        require_jobs(1, None)
