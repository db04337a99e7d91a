"""Which TensorFlow wheel is installed: checked before TensorFlow is imported, which may abort the process."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY
from tiny_checkpoints import save_random
from tiny_models import ALGPT2_CONFIG

from algpt2.checkpoints.folder import checkpoint_folder
from algpt2.config.training import TrainConfig
from algpt2.devices import wheels
from algpt2.errors import UserError
from algpt2.runs.folder import RunIdentity, claim_run_folder

HELP_SECONDS = 3  # of the processor; it takes 0.1 to 0.5, and TensorFlow alone as long as this
SCRIPTS = ["train_tfrecords.py", "generate.py", "eval/wikitext.py"]
SCRIPTS += [str(path.relative_to(REPOSITORY)) for path in sorted((REPOSITORY / "data_tools").glob("*.py"))]
# Makes one distribution look missing, and fails loudly if TensorFlow or Keras is imported all the same.
SITECUSTOMIZE = """
import importlib.metadata, sys

installed = importlib.metadata.version

def version(name):
    if name.startswith("tensorflow"):
        raise importlib.metadata.PackageNotFoundError(name)
    return installed(name)

importlib.metadata.version = version
sys.modules["tensorflow"] = sys.modules["keras"] = None
"""


def set_installed(monkeypatch, versions):
    """Lets `require_tensorflow` see these distributions only."""
    monkeypatch.setattr(wheels, "installed_version", versions.get)


@pytest.mark.parametrize(
    ("versions", "message"),
    [
        ({}, r"TensorFlow is not installed: run `pip install -e '.\[cpu\]'`"),
        ({"libtpu": "0.0.20"}, "TensorFlow is not installed"),
        (
            {"tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0"},
            "found tensorflow-cpu, tensorflow: run `pip uninstall -y tensorflow-cpu tensorflow`",
        ),
        ({"tensorflow-cpu": "2.21.0", "tensorflow-tpu": "2.20.0", "libtpu": "0.0.20"}, "Exactly one TensorFlow wheel"),
        ({"tensorflow-tpu": "2.20.0", "libtpu": "0.0.31"}, r"found 0.0.31; .*pip install 'libtpu>=0.0.14,<=0.0.30'"),
        ({"tensorflow-tpu": "2.20.0", "libtpu": "0.0.52"}, "libtpu"),
        ({"tensorflow-tpu": "2.20.0", "libtpu": "0.1.0"}, "libtpu"),
        ({"tensorflow-tpu": "2.20.0", "libtpu": "0.0.9"}, "found 0.0.9;"),
        ({"tensorflow-tpu": "2.20.0"}, "found none;"),
        ({"tensorflow-tpu": "2.20.0", "libtpu": "0.0.52.dev20260101+nightly"}, "libtpu"),
    ],
)
def test_no_wheel_several_or_a_libtpu_that_aborts_is_an_error_with_its_remedy(monkeypatch, versions, message):
    set_installed(monkeypatch, versions)
    with pytest.raises(UserError, match=message):
        wheels.require_tensorflow()


@pytest.mark.parametrize(
    "versions",
    [
        {"tensorflow-cpu": "2.21.0"},
        {"tensorflow": "2.20.0"},
        {"tensorflow-tpu": "2.20.0", "libtpu": "0.0.14"},
        {"tensorflow-tpu": "2.20.0", "libtpu": "0.0.30"},
        {"tensorflow-cpu": "2.21.0", "libtpu": "0.0.52"},  # jax's, beside the CPU wheel
    ],
)
def test_one_usable_wheel_selects_tensorflow_as_the_backend_of_keras(monkeypatch, versions):
    set_installed(monkeypatch, versions)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    wheels.require_tensorflow()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def python(*arguments, path=()):
    """A new interpreter; `path` stands in front of its PYTHONPATH."""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), str(REPOSITORY)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environ, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("train_tfrecords.py", ["--train_path", "nowhere", "--config_path", "gpt2", "--model_dir", "run"]),
        ("generate.py", ["--checkpoint", "nowhere"]),
        ("eval/wikitext.py", ["--checkpoint", "nowhere", "--data", "nowhere"]),
    ],
)
def test_a_script_without_tensorflow_ends_with_status_2_and_one_sentence(tmp_path, script, arguments):
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    ended = python(script, *arguments, path=[tmp_path])
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: TensorFlow is not installed: run `pip install")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_soon_there_and_needs_neither_tensorflow_nor_keras_installed(tmp_path, script):
    """Without late imports it would take seconds, and the sentence about a missing wheel would be a traceback."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    begin = processor_seconds_of_children()
    ended = python(script, "--help", path=[tmp_path])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"usage: {Path(script).name}")
    assert processor_seconds_of_children() - begin < HELP_SECONDS


def processor_seconds_of_children():
    """Returns what the processes that ended have used of the processor, to which a busy machine adds nothing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_run_is_set_back_without_tensorflow(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    run = tmp_path / "run"
    claim_run_folder(str(run), RunIdentity(ALGPT2_CONFIG, TrainConfig(total_steps=20), "abc"))
    for step in (10, 20):
        save_random(checkpoint_folder(str(run), step), step)
    ended = python("train_tfrecords.py", "--model_dir", str(run), "--rewind_to", "10", path=[tmp_path])
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["moved"] == 1
    assert [folder.name for folder in (run / "checkpoints").iterdir()] == ["step_00000010"]
