"""The command line of the original ALGPT2, which must go on meaning what it meant."""

import json
import math

import pytest
from command_line import CONFIGS, GOOD, SEQ_LEN, TRAIN, snapshot


def original_flags(**changes):
    """The original's command line, with a configuration whose seq_len --seq_len overrides."""
    shards = [f"{{good}}/records/train-0000{i}-of-00003.tfrecord" for i in range(3)]
    return {
        **dict.fromkeys(GOOD[TRAIN]),
        **{"tpu": "algpt2pod", "seq_len": SEQ_LEN, "batch_size": 4, "train_len": "{records}", "warmup_steps": 3},
        **{"model_type": "algpt2", "config_path": "{long}", "epochs": 2, "train_path": shards},
        **{"val_path": "{good}/records/val-00000-of-00001.tfrecord", "dry_run": True},
        **changes,
    }


@pytest.fixture
def places(good, outcomes, tmp_path):
    """What the braces in flags stand for."""
    long = tmp_path / "long.json"
    long.write_text(json.dumps({**CONFIGS["algpt2"], "seq_len": 512}))
    return {
        "good": good,
        "out": tmp_path / "out",
        "records": outcomes["records"].result["train"]["records"],
        "long": long,
    }


@pytest.mark.parametrize("changes", [{}, {"train_len": None}, {"model_dir": "{out}"}])
def test_the_originals_command_line_means_what_it_meant_and_a_dry_run_writes_nothing(
    run_script, places, tmp_path, changes
):
    before = snapshot(tmp_path)
    plan = run_script(TRAIN, places, **original_flags(**changes)).result
    steps = 2 * places["records"] // 4
    assert plan["model_config"]["seq_len"] == SEQ_LEN
    assert (plan["train_records"], plan["steps"], plan["tokens"]) == (places["records"], steps, steps * 4 * SEQ_LEN)
    assert plan["epochs"] == pytest.approx(steps * 4 / places["records"])
    assert plan["train_config"]["warmup_steps"] == 3
    assert plan["train_config"]["compute_dtype"] == "bfloat16"
    # (300 + 16) x 8 tables; 8 x 32 in and 32 x 8 out, with biases; one block of width 32; the last LayerNorm.
    assert plan["parameters"] == 2528 + 552 + (4224 + 8352 + 128) + 64
    assert snapshot(tmp_path) == before


def test_a_batch_that_is_not_full_at_the_end_of_the_epochs_is_no_step(run_script, places):
    records = places["records"]
    batch_size = next(size for size in range(4, 10) if 2 * records % size)
    plan = run_script(TRAIN, places, **original_flags(batch_size=batch_size)).result
    assert plan["steps"] == plan["train_config"]["total_steps"] == math.floor(2 * records / batch_size)


@pytest.mark.parametrize("changes", [{"tpu": None}, {"compute_dtype": "float32"}])
def test_the_computation_is_in_float32_without_a_tpu_or_where_it_is_asked_for(run_script, places, changes):
    plan = run_script(TRAIN, places, **original_flags(**changes)).result
    assert plan["train_config"]["compute_dtype"] == "float32"


def test_a_train_len_that_is_not_the_number_of_records_is_refused(run_script, places):
    outcome = run_script(TRAIN, places, **original_flags(train_len=places["records"] + 1))
    assert outcome.status == 2
    assert f"--train_len must be the number of training records, which is {places['records']}" in outcome.sentence


def test_the_config_folder_of_the_original_has_hugging_faces_keys(run_script, places, tmp_path):
    sizes = {"vocab_size": 300, "n_positions": 512, "n_ctx": 512, "n_embd": 32, "n_layer": 1, "n_head": 2}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    folder = tmp_path / "algpt2"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**sizes, **dropout, "embedding_size": 8, "bos_token_id": 50256}))
    plan, theirs = (
        run_script(TRAIN, {**places, "long": path}, **original_flags()).result for path in (places["long"], folder)
    )
    assert plan["model_config"] == theirs["model_config"]
