"""Weights & Biases without a network: the real package, offline."""

import sys
import time
import types

import pytest
from tiny_run import rate_of_update, tiny_run, train_tiny

from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError
from algpt2.tracking.metrics import Sample
from algpt2.tracking.wandb_log import WandbLog

PROJECT = TrackingConfig(tensorboard=False, wandb_project="tiny", sample_prompt=("alpha",), sample_tokens=3)
WRITE_SECONDS = 60


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_files"))


class FakeRun:
    """Keeps what it is given; `begun` holds every one, oldest first."""

    url, dir = None, ""
    begun = []

    def __init__(self, **options):
        self.options = options
        self.logged = []
        self.begun.append(self)

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.logged.append("finished")


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(FakeRun, "begun", [])
    errors = types.SimpleNamespace(UsageError=type("UsageError", (Exception,), {}))
    module = types.SimpleNamespace(init=FakeRun, Settings=dict, Table=dict, errors=errors)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_whole_run_is_on_disk_to_be_uploaded_later(records_folder, tmp_path, offline):
    run = tiny_run(records_folder, tmp_path / "run", PROJECT)
    train_tiny(run)
    (folder,) = (tmp_path / "run" / "wandb").glob("offline-run-*")
    run_id = (tmp_path / "run" / "wandb_run_id").read_text().strip()
    assert folder.name.endswith(run_id)
    expected = (
        b"train/loss",
        b"validation/bits_per_byte",
        b"checkpoints/checkpoint_wait_seconds",
        b"samples",
        b"tiny",
    )
    assert missing_after_a_while(folder / f"run-{run_id}.wandb", expected) == []


def missing_after_a_while(file, names):
    """Returns which names a file lacks. The package's service writes it by itself, on a busy machine after `finish`."""
    deadline = time.monotonic() + WRITE_SECONDS
    while True:
        data = file.read_bytes()
        missing = [name for name in names if name not in data]
        if not missing or time.monotonic() > deadline:
            return missing
        time.sleep(0.1)


def test_a_resumed_run_goes_on_with_the_id_that_its_folder_keeps(tmp_path, fake):
    def begun(name):
        WandbLog(str(tmp_path / name), "tiny", {"seed": 3})
        return FakeRun.begun[-1].options

    first = begun("run")
    assert (first["project"], first["resume"], first["name"]) == ("tiny", "allow", "run")
    assert first["config"] == {"seed": 3}
    (tmp_path / "run").rename(tmp_path / "moved")
    again, other = begun("moved"), begun("other")
    assert again["id"] == first["id"] != other["id"]


def test_figures_come_under_the_names_of_their_charts(tmp_path, fake):
    log = WandbLog(str(tmp_path), "tiny", {})
    log.write(2, {"loss": 1.5, "tokens_per_second": None})
    log.write_samples(4, [Sample("a", "b")])
    log.close()
    table = {"columns": ["step", "prompt", "text"], "data": [[4, "a", "b"]]}
    assert FakeRun.begun[-1].logged == [(2, {"train/loss": 1.5}), (4, {"samples": table}), "finished"]


def test_a_run_describes_itself_and_logs_the_learning_rate_of_each_steps_own_update(records_folder, tmp_path, fake):
    run = tiny_run(records_folder, tmp_path / "run", PROJECT)
    train_tiny(run)
    (one,) = FakeRun.begun
    assert one.options["config"] == run.describe()
    logged = [entry for entry in one.logged if entry != "finished"]
    rates = {step: values["train/learning_rate"] for step, values in logged if "train/learning_rate" in values}
    assert rates == {step: rate_of_update(run, step) for step in (2, 4, 6, 8, 10)}


def test_a_service_that_fails_all_along_does_not_end_the_run(records_folder, tmp_path, fake, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no network")

    monkeypatch.setattr(FakeRun, "log", fail)
    monkeypatch.setattr(FakeRun, "finish", fail)
    assert train_tiny(tiny_run(records_folder, tmp_path / "run", PROJECT))["step"] == 10
    fake.init = fail
    assert train_tiny(tiny_run(records_folder, tmp_path / "again", PROJECT))["step"] == 10


def test_a_user_whom_the_service_does_not_know_is_told_before_training(records_folder, tmp_path, fake):
    def refuse(**_):
        raise fake.errors.UsageError("no API key")

    fake.init = refuse
    with pytest.raises(UserError, match=r"refuses it \(no API key\): run `wandb login`"):
        train_tiny(tiny_run(records_folder, tmp_path, PROJECT))
    assert not list(tmp_path.rglob("COMMITTED"))


@pytest.mark.parametrize("package", [None, types.ModuleType("wandb")], ids=["none", "a folder of that name"])
def test_a_missing_package_is_refused_before_anything_is_written(records_folder, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, "wandb", package)
    with pytest.raises(UserError, match=r"pip install -e '\.\[wandb\]'"):
        train_tiny(tiny_run(records_folder, tmp_path / "run", PROJECT))
    assert not (tmp_path / "run").exists()
