"""A study that is killed with SIGKILL and goes on ends as one that nothing happened to. Real cells, real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import GOOD, STUDY, to_arguments
from places import REPOSITORY
from tiny_study import SPEC

from algpt2.studies.report import make_report
from algpt2.studies.results import read_study

TIMEOUT_SECONDS = 200
# As long as it takes to be killed within.
STEPS = 300
LONG = (
    SPEC.replace("1280", str(STEPS * 4 * 16))
    .replace("[11, 12]", "[11]")
    .replace("batch_size = 4,", 'batch_size = 4, optimizer = "adafactor",')
    .replace("[arms.shared]", '[arms.shared]\nbugs = ["adafactor_without_memory"]')
)


def command(spec, records_folder, output):
    flags = {**GOOD[STUDY], "SPEC": spec, "only": "shared", "save_every_steps": 10, "output": str(output)}
    flags |= {"train_path": records_folder, "val_path": records_folder}
    return [sys.executable, str(REPOSITORY / STUDY), *to_arguments(flags, {})]


def started(arguments):
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(holds, process):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def results(output):
    """Returns the results' files of a study without what depends on the clock."""
    files = {path.relative_to(output): json.loads(path.read_text()) for path in sorted(output.glob("results/*/*"))}
    return {path: {**fields, "tokens_per_second": None} for path, fields in files.items()}


def report_without_speed(output):
    """Returns the files of a study's report, without the section at their end that tells what a clock measured."""
    pytest.importorskip("matplotlib")
    files = make_report(read_study(str(output))).files
    assert any(b"Speed" in content for content in files.values())
    return {name: content.split(b"Speed")[0] for name, content in files.items()}


def is_alive(process_id):
    return Path(f"/proc/{process_id}").exists()


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_killed_study_leaves_no_process_and_goes_on_to_the_same_results(records_folder, tmp_path):
    spec = tmp_path / "study.toml"
    spec.write_text(LONG)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = started(command(spec, records_folder, killed))
    run_folder = killed / "cells" / "shared" / "lr-0.01-seed-11"
    wait_until(lambda: list(run_folder.glob("checkpoints/*/COMMITTED")), process)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while is_alive(child):
        assert time.monotonic() < deadline, "the cell's process outlives the study's"
        time.sleep(0.01)
    assert not (run_folder / "result.json").exists(), "it was killed too late to show anything"
    for output in (killed, whole):
        stdout, stderr = started(command(spec, records_folder, output)).communicate(timeout=TIMEOUT_SECONDS)
        assert json.loads(stdout)["finished"] == 1, stderr
    log = run_folder.with_name(f"{run_folder.name}.log").read_text()
    assert "step 0 of" not in log.rpartition("workers, ")[2], "it began anew"
    assert json.loads((run_folder / "run.json").read_text())["optimizer_changes"] == ["adafactor_without_memory"]
    assert results(killed) == results(whole)
    assert report_without_speed(killed) == report_without_speed(whole)
    (result,) = results(whole).values()
    assert result["val_bits_per_byte"] > 0


def test_a_cell_that_diverges_is_a_result_and_the_status_is_1(records_folder, tmp_path):
    spec, output = tmp_path / "study.toml", tmp_path / "out"
    spec.write_text(SPEC.replace("[1e-2]", "[1e30]").replace("[11, 12]", "[11]"))
    process = started(command(spec, records_folder, output))
    stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 1, stderr
    assert "the loss or the gradient is not finite" in json.loads(stdout)["failed"][0]["reason"]
    assert "shared/lr-1e+30-seed-11 failed: the loss or the gradient is not finite" in stderr
    (result,) = results(output).values()
    assert (result["status"], result["diverged"], result["val_bits_per_byte"]) == ("failed", True, None)
