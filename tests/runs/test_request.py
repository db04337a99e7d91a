"""What a command line leaves out: the run's folder has a name then, and settings have defaults that fit the rest."""

import dataclasses
import json
from datetime import datetime

import pytest
from command_line import GOOD, TRAIN, call, to_arguments

from algpt2.config.model import GPTConfig
from algpt2.config.training import DEFAULT_LEARNING_RATE
from algpt2.errors import UserError
from algpt2.runs.request import RunRequest
from algpt2.text.tokenizer import Tokenizer

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


def test_a_document_mask_takes_the_eos_of_the_records(scripts, records_folder):
    parse = scripts[TRAIN]["parse"]
    flags = ["--config_path", "gpt2-tiny", "--document_mask"]
    config = RunRequest(parse([*flags, "--train_path", records_folder])).model_config()
    eos_id = Tokenizer.load(records_folder).eos_id
    assert config == dataclasses.replace(GPTConfig.from_preset("gpt2-tiny"), document_eos_id=eos_id)
    with pytest.raises(UserError, match="--document_mask takes the id .* from --train_path, and it was not given"):
        RunRequest(parse(flags)).model_config()


@pytest.fixture
def train_config(scripts):
    """The training configuration of a command line, without records."""

    def train_config(*flags):
        arguments = scripts["train_tfrecords.py"]["parse"](["--config_path", "gpt2-tiny", "--steps", "3", *flags])
        return RunRequest(arguments).train_config(None)

    return train_config


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 6e-4), ("adafactor", 1e-2), ("muon", 6e-4)])
def test_every_optimizer_has_its_own_learning_rate_unless_one_is_given(train_config, optimizer, rate):
    """The rates of AdamW and Adafactor differ by a factor of 17, so either would spoil the other's run."""
    assert DEFAULT_LEARNING_RATE[optimizer] == rate
    assert train_config("--optimizer", optimizer).learning_rate == rate
    assert train_config("--optimizer", optimizer, "--learning_rate", "0.5").learning_rate == 0.5


def test_a_tpu_computes_in_bfloat16_unless_float32_is_asked_for(train_config):
    assert train_config().compute_dtype == "float32"
    assert train_config("--tpu", "v3-8").compute_dtype == "bfloat16"
    assert train_config("--tpu", "v3-8", "--compute_dtype", "float32").compute_dtype == "float32"
