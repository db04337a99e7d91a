"""`import algpt2` as a library: what it gives, when it imports TensorFlow, and that the documented examples run."""

import doctest
import importlib
import subprocess
import sys

import numpy as np
import pytest
from places import REPOSITORY
from tiny_checkpoints import TOKENIZER_JSON, model_and_optimizer
from tiny_models import ALGPT2_CONFIG

import algpt2
from algpt2.checkpoints.folder import CheckpointState, checkpoint_folder
from algpt2.checkpoints.save_load import save_checkpoint, take_snapshot
from algpt2.errors import UserError

PUBLIC = {"GPT", "GPTConfig", "Tokenizer", "load_model"}


def python(program, **environment):
    """Runs a program in a process of its own, which has imported nothing yet."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment or None)


def modules_with_examples():
    files = [file for file in (REPOSITORY / "algpt2").rglob("*.py") if ">>> " in file.read_text(encoding="utf-8")]
    names = [".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files]
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.mark.parametrize("module", modules_with_examples())
def test_the_examples_of_docstrings_print_what_they_say(module):
    results = doctest.testmod(importlib.import_module(module))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    "use", ["algpt2", "dir(algpt2)", "algpt2.GPTConfig.from_preset('gpt2')", "algpt2.Tokenizer.train(['a b'], 257)"]
)
def test_nothing_imports_tensorflow_before_a_model_is_asked_for(use):
    ended = python(f"import sys, algpt2; {use}; sys.exit(str({{'tensorflow', 'keras'}} & {{*sys.modules}} or ''))")
    assert ended.stderr.strip() == ""


def test_a_configuration_is_at_hand_within_a_second_of_processor_time():
    ended = python("import time; import algpt2; algpt2.GPTConfig; algpt2.Tokenizer; print(time.process_time())")
    assert float(ended.stdout) < 1.0


def test_the_public_names_are_the_documented_ones():
    assert set(algpt2.__all__) == PUBLIC
    assert set(dir(algpt2)) >= PUBLIC
    for name in PUBLIC:
        assert getattr(algpt2, name).__name__ == name
        assert getattr(algpt2, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'GPT5'"):
        algpt2.GPT5  # noqa: B018


@pytest.fixture
def model_dir(tmp_path):
    """A run's folder with one checkpoint, and the model in it."""
    model, optimizer = model_and_optimizer(ALGPT2_CONFIG)
    state = CheckpointState(3, 30, {}, "abc", 1)
    save_checkpoint(checkpoint_folder(str(tmp_path), 3), take_snapshot(model, optimizer), state, TOKENIZER_JSON)
    return str(tmp_path), model


def test_a_model_is_loaded_from_a_runs_folder_or_from_a_checkpoint(model_dir):
    folder, model = model_dir
    ids = np.arange(10, dtype="int32")[None]
    for checkpoint in (folder, checkpoint_folder(folder, 3)):
        np.testing.assert_array_equal(algpt2.load_model(checkpoint)(ids), model(ids))
    assert algpt2.load_model(folder, dtype="mixed_bfloat16").compute_dtype == "bfloat16"


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no COMMITTED"):
        algpt2.load_model(str(tmp_path))


def test_all_names_work_in_a_new_process_whatever_backend_is_configured(model_dir):
    """Keras would take the backend that the environment names, and PyTorch or JAX has no such model."""
    program = (
        "import algpt2; config = algpt2.GPTConfig.from_preset('algpt2-tiny'); print(algpt2.GPT(config).count_params(), "
        f"algpt2.load_model({model_dir[0]!r}).count_params(), algpt2.GPT.from_preset('algpt2-tiny').config == config)"
    )
    ended = python(program, KERAS_BACKEND="torch", PATH="", TF_CPP_MIN_LOG_LEVEL="3")
    assert ended.stdout.split() == ["342048", str(ALGPT2_CONFIG.parameter_count()), "True"], ended.stderr


def test_another_backend_that_keras_has_been_imported_with_is_refused(monkeypatch):
    keras = importlib.import_module("keras")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="backend must be tensorflow, and it was imported with jax"):
        algpt2.load_model("anywhere")
