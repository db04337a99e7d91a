"""The folders of Vertex AI's environment variables, where the flags that say the same are left out."""

import pytest
from command_line import TRAIN

from algpt2.errors import UserError
from algpt2.runs.request import RunRequest

BASE = "gs://my-bucket/job"


@pytest.fixture(autouse=True)
def job(monkeypatch):
    """The variables of a job, as Vertex AI sets them."""
    monkeypatch.setenv("AIP_MODEL_DIR", f"{BASE}/model/")
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", f"{BASE}/checkpoints/")
    monkeypatch.setenv("AIP_TENSORBOARD_LOG_DIR", f"{BASE}/logs/")


@pytest.fixture
def folders(scripts):
    """Returns the run's folder and that of its TensorBoard files, for these flags."""

    def folders(*flags):
        request = RunRequest(scripts[TRAIN]["parse"](flags))
        return request.model_dir, request.tracking().tensorboard_dir

    return folders


def test_a_job_has_its_run_where_its_checkpoints_belong_and_its_curves_where_vertex_ai_looks(folders, caplog):
    caplog.set_level("INFO", "absl")
    assert folders() == (f"{BASE}/checkpoints", f"{BASE}/logs")
    assert f"--model_dir is {BASE}/checkpoints, from the environment variable AIP_CHECKPOINT_DIR" in caplog.text
    assert f"--tensorboard_dir is {BASE}/logs, from the environment variable AIP_TENSORBOARD_LOG_DIR" in caplog.text


def test_a_flag_wins_over_its_variable_alone_and_then_nothing_is_said(folders, caplog):
    caplog.set_level("INFO", "absl")
    assert folders("--model_dir", "mine") == ("mine", f"{BASE}/logs")
    assert folders("--tensorboard_dir", "curves") == (f"{BASE}/checkpoints", "curves")
    caplog.clear()
    assert folders("--model_dir", "mine", "--tensorboard_dir", "curves") == ("mine", "curves")
    assert caplog.text == ""


def test_without_curves_their_folder_is_not_taken(folders):
    assert folders("--no-tensorboard") == (f"{BASE}/checkpoints", None)


def test_a_variable_that_is_empty_says_nothing(folders, monkeypatch):
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", "")
    monkeypatch.delenv("AIP_TENSORBOARD_LOG_DIR")
    folder, curves = folders("--config_path", "gpt2")
    assert folder.startswith("runs/gpt2-"), "the folder of a finished model is not taken for a run's"
    assert curves is None


@pytest.mark.parametrize("flags", [["--tensorboard_dir", ""], ["--tensorboard_dir", "curves", "--no-tensorboard"]])
def test_a_folder_for_curves_that_cannot_be_meant_is_refused(folders, flags):
    with pytest.raises(UserError, match="--tensorboard_dir must name a folder for TensorBoard's files, without"):
        folders(*flags)
