"""What training refuses before it begins, and that `--doctor` says no exactly there."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from command_line import CONFIGS, GOOD, SEQ_LEN, STEPS, TRAIN, call, to_arguments
from tiny_models import ALGPT2_CONFIG
from wrong_input import write_foreign_id

from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.training import start_checks
from algpt2.training.start_checks import START_CHECKS, least_host_bytes


@pytest.fixture
def places(good, tmp_path):
    """What the braces in flags stand for: copies of sound things, some of them spoilt."""
    (tmp_path / "small.json").write_text(json.dumps({**CONFIGS["algpt2"], "vocab_size": 257}))
    (tmp_path / "huge.json").write_text(json.dumps({**CONFIGS["algpt2"], "d_model": 2_000_000}))
    (tmp_path / "deep.json").write_text(json.dumps({**CONFIGS["algpt2"], "n_layer": 10**9}))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.txt").write_text("mine")
    shutil.copytree(good / "algpt2", tmp_path / "begun")
    shutil.copytree(good / "algpt2", tmp_path / "wrong_result")
    (tmp_path / "wrong_result" / "result.json").write_text("[]")
    write_foreign_id(Path(shutil.copytree(good / "records", tmp_path / "foreign")), "train")
    return {"good": good, "here": tmp_path, "out": tmp_path / "out"}


# What is changed of a command line that works, and the check of --doctor that must say no; None: a run that is sound.
RUNS = [
    ({}, None),
    ({"model_dir": "{here}/begun", "steps": STEPS}, None),
    ({"model_dir": "{here}/begun", "steps": STEPS - 1}, "steps made"),
    ({"model_dir": "{here}/wrong_result", "steps": STEPS}, "steps made"),
    ({"model_dir": "{here}/begun", "seed": 1}, "run folder"),
    ({"model_dir": "{here}/occupied"}, "run folder"),
    ({"model_dir": "{here}/file"}, "run folder"),
    ({"model_dir": ""}, "model_dir"),
    ({"config_path": "{here}/small.json"}, "agreement"),
    ({"config_path": "{here}/huge.json"}, "host memory"),
    ({"config_path": "{here}/deep.json"}, "host memory"),
    ({"batch_size": 2**31 - 1}, "host memory"),
    ({"batch_size": 2**31}, "training configuration"),
    ({"accumulation_steps": 3}, "batch"),
    ({"sample_prompt": "alpha " * 30}, "prompts"),
    ({"sample_prompt": "alpha", "sample_tokens": SEQ_LEN}, "prompts"),
    ({"sample_prompt": "caf\udce9", "sample_tokens": 2}, "prompts"),
    ({"eval_wikitext": ""}, "tracking"),
    ({"eval_wikitext": "{here}/none"}, "benchmarks"),
    ({"eval_hellaswag": "{here}/file"}, "benchmarks"),
    ({"eval_lambada": "{here}/file"}, "benchmarks"),
    ({"initialize_from": "{here}/none"}, "initial weights"),
    ({"initialize_from": "{good}/gpt2"}, "initial weights"),
    ({"initialize_from": "{good}/algpt2"}, None),
    ({"duplicate_layers": True}, "agreement"),
    ({"wandb_project": ""}, "tracking"),
    ({"tpu": "grpc://127.0.0.1:1"}, "data paths"),
    ({"train_path": "{here}/none"}, "training records"),
    ({"train_path": "{here}/foreign", "batch_size": 200}, "first batches"),
    ({"steps": 0}, "training configuration"),
    ({"numerics_batches": 1}, "agreement"),
]


@pytest.mark.parametrize(("changes", "check"), RUNS, ids=lambda part: str(part)[:60])
def test_doctor_finds_an_error_exactly_where_training_refuses(scripts, places, monkeypatch, changes, check):
    from algpt2.training import loop

    monkeypatch.setattr(loop, "build_trainer", lambda run, *_: pytest.fail("the run began"))
    flags = to_arguments({**GOOD[TRAIN], "steps": STEPS, **changes}, places)
    examined = call(scripts[TRAIN]["main"], [*flags, "--doctor"])
    errors = {finding["check"]: finding["message"] for finding in json.loads(examined.stdout) if is_error(finding)}
    if check is None:
        assert errors == {}
        with pytest.raises(pytest.fail.Exception, match="the run began"):
            call(scripts[TRAIN]["main"], flags)
        return
    assert check in errors
    trained = call(scripts[TRAIN]["main"], flags)
    assert trained.status == 2
    # Of a folder training says less, because it looks no further than at the first thing that is in its way.
    assert check == "run folder" or trained.sentence.removeprefix("error: ") in errors.values()


def is_error(finding):
    return finding["level"] == "error"


@pytest.mark.parametrize("field", ["vocab_size", "eos_id"])
def test_a_manifest_that_is_not_of_its_tokenizer_is_refused(records_folder, field):
    from algpt2.records.record_set import open_record_set

    check = next(check for check in START_CHECKS if check.name == "tokenizer")
    records = open_record_set([records_folder], "train")
    assert check.find(records).vocab_size == records.vocab_size
    with pytest.raises(UserError, match="must have their tokenizer's vocab_size and eos_id"):
        check.find(dataclasses.replace(records, **{field: getattr(records, field) - 1}))
    with pytest.raises(UserError, match="it is another"):
        check.find(dataclasses.replace(records, tokenizer_sha256="0" * 64))


def test_the_least_memory_is_that_of_parameters_gradients_and_the_inputs_of_the_layers():
    config = TrainConfig(total_steps=1, compute_dtype="bfloat16")
    parameters = 4 * ALGPT2_CONFIG.parameter_count()
    inputs = ALGPT2_CONFIG.n_layer * ALGPT2_CONFIG.d_model * 3 * ALGPT2_CONFIG.seq_len * 2
    assert least_host_bytes(ALGPT2_CONFIG, config, 3, on_host=True) == 2 * parameters + inputs
    assert least_host_bytes(ALGPT2_CONFIG, config, 3, on_host=False) == parameters


@pytest.mark.parametrize("name", ["gpt2", "algpt2", "gpt2-xl"])
def test_the_least_is_below_what_the_estimate_from_above_says(name):
    from algpt2.preflight.memory_estimate import replica_bytes

    model, config = GPTConfig.from_preset(name), TrainConfig(total_steps=1)
    assert least_host_bytes(model, config, 8, on_host=True) < sum(replica_bytes(model, config, 8).values())


def test_a_machine_that_does_not_say_how_much_memory_it_has_refuses_nothing(monkeypatch, scripts, places):
    monkeypatch.setattr(start_checks, "host_memory_bytes", lambda: None)
    flags = to_arguments({**GOOD[TRAIN], "config_path": "{here}/huge.json"}, places)
    examined = call(scripts[TRAIN]["main"], [*flags, "--doctor"])
    assert "host memory" not in [finding["check"] for finding in json.loads(examined.stdout) if is_error(finding)]


def test_a_run_that_cannot_fit_is_described_by_a_dry_run(run_script, places):
    plan = run_script(TRAIN, places, config_path="{here}/huge.json", dry_run=True).result
    assert plan["parameters"] > 10**13
    assert not Path(places["out"]).exists()
