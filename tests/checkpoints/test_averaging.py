import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from command_line import EVALUATE, GENERATE, call
from tiny_checkpoints import TOKENIZER, save_random
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.checkpoints.averaging import average_checkpoints
from algpt2.checkpoints.folder import MODEL_NAME, find_checkpoint
from algpt2.checkpoints.save_load import load_model
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.runs.folder import RunIdentity, claim_run_folder

AVERAGE = "data_tools/average_checkpoints.py"


def weights(folder):
    return {name: p.numpy() for name, p in load_model(str(folder)).named_parameters().items()}


@pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])
def test_every_parameter_is_the_mean_over_all_checkpoints(tmp_path, config):
    saved = [save_random(tmp_path / str(seed), seed, config) for seed in (1, 2, 3)]
    average_checkpoints([folder for _, folder in saved], str(tmp_path / "mean"))
    found = weights(tmp_path / "mean")
    assert set(found) == set(saved[0][0])
    for name, value in found.items():
        expected = np.mean([parameters[name].astype(np.float64) for parameters, _ in saved], axis=0)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("copies", [2, 3, 7])
def test_the_mean_of_copies_of_one_checkpoint_is_that_checkpoint_bit_for_bit(tmp_path, copies):
    """In float32 a sum of three rounds, and its third is another number."""
    _, folder = save_random(tmp_path / "one", 1)
    average_checkpoints([folder] * copies, str(tmp_path / "mean"))
    model_files = [Path(place) / MODEL_NAME for place in (folder, tmp_path / "mean")]
    assert model_files[0].read_bytes() == model_files[1].read_bytes()


def test_the_result_is_a_committed_checkpoint_that_says_what_was_averaged(tmp_path):
    folders = [save_random(tmp_path / str(seed), seed)[1] for seed in (4, 5)]
    mean = str(tmp_path / "mean")
    state = average_checkpoints(folders, mean)
    assert {file.name for file in Path(mean).iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "state.json",
        "COMMITTED",
    }
    assert find_checkpoint(mean).folder == mean, "intact: every hash is right"
    assert json.loads((Path(mean) / "state.json").read_text()) == state
    assert set(state["files_sha256"]) == {"model.safetensors", "config.json", "tokenizer.json"}
    origins = [(origin["checkpoint"], origin["step"], origin["tokens"]) for origin in state["averaged"]]
    assert origins == [(folders[0], 4, 40), (folders[1], 5, 50)]
    for name in ("config.json", "tokenizer.json"):
        assert (Path(mean) / name).read_bytes() == (Path(folders[0]) / name).read_bytes()


def test_means_may_be_averaged_again(tmp_path):
    folders = [save_random(tmp_path / str(seed), seed)[1] for seed in (1, 2)]
    average_checkpoints(folders, str(tmp_path / "mean"))
    state = average_checkpoints([str(tmp_path / "mean")] * 2, str(tmp_path / "again"))
    assert [origin["step"] for origin in state["averaged"]] == [None, None]
    once, twice = weights(tmp_path / "mean"), weights(tmp_path / "again")
    assert once.keys() == twice.keys()
    assert all(np.array_equal(once[name], twice[name]) for name in once)


def test_no_run_resumes_from_a_mean(tmp_path):
    average_checkpoints([save_random(tmp_path / "one", 1)[1]] * 2, str(tmp_path / "mean"))
    with pytest.raises(UserError, match="must be new or empty"):
        claim_run_folder(str(tmp_path / "mean"), RunIdentity(GPT2_CONFIG, TrainConfig(total_steps=1), "abc"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": dataclasses.replace(ALGPT2_CONFIG, n_head=4)}, "the same model configuration"),
        ({"tokenizer": {**TOKENIZER, "version": "2"}}, "the same tokenizer"),
    ],
    ids=["model", "tokenizer"],
)
def test_checkpoints_that_do_not_belong_together_are_refused_by_name_and_nothing_is_written(tmp_path, changes, message):
    """Four heads instead of two have the same parameters: only the configuration tells."""
    folders = [
        save_random(tmp_path / "a", 1)[1],
        save_random(tmp_path / "b", 1)[1],
        save_random(tmp_path / "c", 1, **changes)[1],
    ]
    with pytest.raises(UserError, match=message) as raised:
        average_checkpoints(folders, str(tmp_path / "mean"))
    assert f"{folders[0]} and {folders[2]} differ" in str(raised.value)
    assert not (tmp_path / "mean").exists()


def test_one_checkpoint_a_damaged_one_and_a_full_output_folder_are_refused(tmp_path):
    folders = [save_random(tmp_path / str(seed), seed)[1] for seed in (1, 2)]
    with pytest.raises(UserError, match="at least 2 checkpoints to average, received 1"):
        average_checkpoints(folders[:1], str(tmp_path / "mean"))
    with pytest.raises(UserError, match="must be new or empty"):
        average_checkpoints(folders, folders[0])
    (Path(folders[1]) / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="another SHA-256"):
        average_checkpoints(folders, str(tmp_path / "mean"))
    assert not (tmp_path / "mean").exists()


def test_generation_and_evaluation_take_the_mean_of_a_runs_checkpoints(good, scripts, run_script, tmp_path):
    kept = [str(good / "algpt2" / "checkpoints" / f"step_000000{step}") for step in (10, 30)]
    mean = str(tmp_path / "mean")
    result = call(scripts[AVERAGE]["main"], ["--checkpoint", *kept, "--output", mean]).result
    assert (result["checkpoint"], [origin["step"] for origin in result["averaged"]]) == (mean, [10, 30])
    assert run_script(GENERATE, {"good": good}, checkpoint=mean).result["checkpoint"] == mean
    scores = [run_script(EVALUATE, {"good": good}, checkpoint=place).result for place in (*kept, mean)]
    assert scores[-1]["checkpoint"] == mean
    assert len({score["bits_per_byte"] for score in scores}) == 3, "the mean has parameters of its own"


def test_the_help_says_that_training_cannot_resume_from_a_mean(scripts):
    assert "training cannot resume" in " ".join(call(scripts[AVERAGE]["parse"], ["--help"]).stdout.split())


def test_a_run_with_a_copy_of_a_checkpoint_stands_for_its_newest_checkpoint(tmp_path):
    save_random(tmp_path / "run" / "checkpoints" / "step_00000001", 1)
    save_random(tmp_path / "run" / "checkpoints" / "step_00000009_backup", 9)
    state = average_checkpoints([str(tmp_path / "run")] * 2, str(tmp_path / "mean"))
    assert [one["step"] for one in state["averaged"]] == [1, 1]
