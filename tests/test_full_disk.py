"""A disk that is full: one sentence, nothing half-written stays, and the same command works once there is room."""

import contextlib
import resource

import pytest
from command_line import RECORDS, TOKENIZER, TRAIN

from algpt2.training import run_files


@contextlib.contextmanager
def files_limited_to(size_bytes):
    """Lets the system refuse to let a file grow past a size: writes fail as they do on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("script", [TOKENIZER, RECORDS])
def test_a_file_that_cannot_be_written_is_one_sentence_and_no_part_of_it_stays(run_script, good, tmp_path, script):
    places = {"good": good, "out": tmp_path / "out"}
    with files_limited_to(1000):
        outcome = run_script(script, places)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "File too large" in outcome.sentence
    assert str(tmp_path / "out") in outcome.sentence
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    assert run_script(script, places).result, "the same command works once there is room"


def test_a_checkpoint_that_cannot_be_written_is_one_sentence_and_the_run_can_go_on(
    run_script, good, tmp_path, outcomes, monkeypatch
):
    monkeypatch.setattr(run_files, "END_SECONDS", 1.0)
    places = {"good": good, "out": tmp_path / "out"}
    with files_limited_to(20_000):
        outcome = run_script(TRAIN, places)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "File too large" in outcome.sentence
    assert f"{tmp_path}/out/checkpoints/step_00000030/model.safetensors" in outcome.sentence
    assert "Errno None" not in outcome.sentence
    assert not list(tmp_path.rglob("checkpoints/*"))
    assert not list(tmp_path.rglob(".tmp-*"))
    assert run_script(TRAIN, places).result["val_loss"] == outcomes["algpt2"].result["val_loss"]
