"""The folder of a run that the command line does not name."""

import json
from datetime import datetime

import pytest
from command_line import GOOD, TRAIN, call, to_arguments

from algpt2.errors import UserError
from algpt2.runs.request import RunRequest

NOW = datetime(2026, 11, 25, 3, 30, 7)


@pytest.fixture
def folder_of(scripts):
    """Returns the folder of a run that is asked for with these flags."""
    return lambda *flags: RunRequest(scripts[TRAIN]["parse"](flags), now=lambda: NOW).model_dir


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        (["--config_path", "gpt2-tiny"], "runs/gpt2-tiny-20261125-033007"),
        (["--model_type", "algpt2"], "runs/algpt2-20261125-033007"),
        (["--config_path", "models/mine.json"], "runs/mine-20261125-033007"),
        (["--config_path", "models/mine/"], "runs/mine-20261125-033007"),
        (["--config_path", "models/mine/config.json"], "runs/mine-20261125-033007"),
        (["--config_path", "gs://bucket/mine/config.json"], "runs/mine-20261125-033007"),
        (["--config_path", "./"], "runs/run-20261125-033007"),
        (["--config_path", "config.json"], "runs/run-20261125-033007"),
        (["--config_path", "gpt2", "--model_dir", "mine"], "mine"),
    ],
)
def test_a_folder_that_is_not_named_is_called_after_the_model_and_the_time(folder_of, flags, folder):
    assert folder_of(*flags) == folder


def test_a_request_has_one_folder_however_long_it_lives(scripts):
    times = iter([NOW, datetime(2027, 1, 1)])
    request = RunRequest(scripts[TRAIN]["parse"](["--config_path", "gpt2"]), now=lambda: next(times))
    assert request.model_dir == request.model_dir


def test_workers_would_name_it_differently_so_they_must_be_told(folder_of, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1", "b:1"]}}))
    with pytest.raises(UserError, match="--model_dir must name a folder that all workers see where TF_CONFIG is set"):
        folder_of("--config_path", "gpt2")
    assert folder_of("--config_path", "gpt2", "--model_dir", "mine") == "mine"
    assert folder_of("--config_path", "gpt2", "--dry_run")
    assert folder_of("--config_path", "gpt2", "--rehearse", "v3-8")


def test_a_run_without_a_named_folder_says_where_it_is_and_goes_on_when_it_is_named(
    scripts, good, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    caplog.set_level("INFO", "absl")
    flags = {**GOOD[TRAIN], "steps": 4, "model_dir": None, "val_path": None, "tensorboard": False}
    begun = call(scripts[TRAIN]["main"], to_arguments(flags, {"good": good})).result["model_dir"]
    assert begun.startswith("runs/algpt2-")
    assert json.loads((tmp_path / begun / "result.json").read_text())["model_dir"] == begun
    assert f"the run is in {begun}: add --model_dir {begun} to this command to go on with it" in caplog.text
    gone_on = call(scripts[TRAIN]["main"], to_arguments({**flags, "steps": 5, "model_dir": begun}, {"good": good}))
    assert gone_on.result["step"] == 5
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [begun.removeprefix("runs/")]


def test_to_rewind_a_folder_must_be_named(scripts):
    outcome = call(scripts[TRAIN]["main"], ["--rewind_to", "10"])
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "--rewind_to needs --model_dir" in outcome.sentence
