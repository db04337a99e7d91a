"""The scripts as functions, as their users meet them: from text to scores, and on with a run that was begun."""

import json
import math
import re
import shutil

import pytest
from command_line import (
    COMPARE,
    CONFIGS,
    EVALUATE,
    GENERATE,
    GOOD,
    INSPECT,
    SEQ_LEN,
    STEPS,
    TRAIN,
    VOCAB_SIZE,
    WORDS,
    snapshot,
)

from algpt2.tracking.metrics import read_metrics


def test_the_tokenizer_tool_reports_what_it_read_and_made(good, outcomes):
    result = outcomes["tokenizer"].result
    texts = [json.loads(line)["text"] for line in (good / "corpus.jsonl").read_text().splitlines()]
    assert (result["documents"], result["bytes"]) == (140, sum(map(len, texts)))
    # All six words with and without a space in front take fewer merges than were asked for.
    assert 257 < result["vocab_size"] <= VOCAB_SIZE
    assert result["eos_id"] == result["vocab_size"] - 1
    assert (good / "tokenizer" / "tokenizer.json").is_file()


def test_the_records_tool_accounts_for_every_document_token_and_byte(good, outcomes):
    result = outcomes["records"].result
    train, val = result["train"], result["val"]
    assert train["documents"] + val["documents"] == 140
    assert train["text_bytes"] + val["text_bytes"] == outcomes["tokenizer"].result["bytes"]
    assert (train["shards"], val["shards"]) == (3, 1)
    for split in (train, val):
        assert split["records"] > 0
        assert split["target_tokens"] == split["records"] * SEQ_LEN
        assert split["target_tokens"] + split["tail_tokens"] == split["input_tokens"]
    assert result["tokenizer_sha256"] == outcomes["tokenizer"].result["sha256"]
    assert sum(1 for _ in (good / "records").glob("*.tfrecord")) == 4


def test_the_inspection_shows_the_first_records_as_text(outcomes):
    result = outcomes["inspection"].result
    assert result["train"] == outcomes["records"].result["train"]
    assert len(result["records"]) == 2
    for record in result["records"]:
        assert record["shard"] == "train-00000-of-00003.tfrecord"
        assert len(re.findall("|".join(WORDS), record["text"])) >= 8
    assert result["records"][0]["text"].startswith("<|endoftext|>")


@pytest.mark.parametrize("model", CONFIGS)
def test_training_ends_at_the_last_step_with_a_loss_that_fell(good, outcomes, model):
    result = outcomes[model].result
    assert (result["step"], result["tokens"]) == (STEPS, STEPS * 4 * SEQ_LEN)
    assert result["model_dir"] == str(good / model)
    losses = [line["loss"] for line in read_metrics(result["model_dir"]) if "loss" in line]
    assert len(losses) == STEPS // 5
    assert losses[-1] < losses[0] - 1
    assert result["val_loss"] < math.log(VOCAB_SIZE) - 1
    assert result["val_perplexity"] == pytest.approx(math.exp(result["val_loss"]))
    assert result["tokens_per_second"] > 0
    kept = sorted(folder.name for folder in (good / model / "checkpoints").iterdir())
    assert kept == ["step_00000010", "step_00000020", "step_00000030"]


def test_the_albert_kind_of_model_has_fewer_parameters(outcomes):
    assert 0 < outcomes["algpt2"].result["parameters"] < outcomes["gpt2"].result["parameters"]


def test_the_same_training_command_again_reports_the_same_result_and_changes_nothing(run_script, good, outcomes):
    before = snapshot(good / "algpt2")
    again = run_script(TRAIN, {"good": good, "out": good / "algpt2"})
    assert again.result == outcomes["algpt2"].result
    assert snapshot(good / "algpt2") == before


def test_a_run_on_shards_named_one_by_one_is_the_same_run(run_script, good, outcomes):
    shards = [f"{{good}}/records/train-0000{i}-of-00003.tfrecord" for i in range(3)]
    places = {"good": good, "out": good / "algpt2"}
    again = run_script(TRAIN, places, train_path=shards, val_path="{good}/records/val-*")
    assert again.result == outcomes["algpt2"].result


@pytest.mark.parametrize("model", CONFIGS)
def test_the_raw_protocol_scores_every_byte_of_the_file(good, outcomes, model):
    result = outcomes[f"{model}_raw"].result
    text = (good / "heldout.txt").read_text()
    assert result["checkpoint"] == str(good / model / "checkpoints" / f"step_{STEPS:08d}")
    assert (result["protocol"], result["window"], result["stride"]) == ("raw", SEQ_LEN, SEQ_LEN)
    assert (result["scored_bytes"], result["words"]) == (len(text), len(text.split()))
    assert result["bits_per_byte"] == pytest.approx(result["total_nats"] / math.log(2) / len(text))
    assert result["token_perplexity"] < VOCAB_SIZE / 2


def test_the_hf_protocol_leaves_out_the_first_token(run_script, good, outcomes):
    result = run_script(EVALUATE, {"good": good}, protocol="hf", stride=4).result
    assert (result["protocol"], result["stride"]) == ("hf", 4)
    # Nine more line ends than the file has stand between its ten lines' nine ends; the first word is context only.
    whole = len((good / "heldout.txt").read_text()) + 9 * 2
    assert whole - len("epsilon") <= result["scored_bytes"] < whole
    assert result["word_perplexity"] == pytest.approx(math.exp(result["total_nats"] / result["words"]))


def test_without_a_protocol_a_folder_with_wikitext_gives_a_list_of_them_all_and_a_table(run_script, good, tmp_path):
    articles = [f" = {word} = \n \n {word} , alpha beta . \n" for word in ("delta", "gamma")]
    (tmp_path / "wiki.test.raw").write_text("".join(articles))
    (tmp_path / "wiki.valid.raw").write_text("none of these")
    outcome = run_script(EVALUATE, {"good": good}, data=str(tmp_path), protocol=None)
    assert len(outcome.result) == 8
    assert {result["data"] for result in outcome.result} == {str(tmp_path / "wiki.test.raw")}
    assert len([line for line in outcome.stderr.splitlines() if line.startswith("|")]) == 8 + 2
    alone = run_script(EVALUATE, {"good": good}, data=str(tmp_path / "wiki.test.raw"), protocol=["raw", "raw"])
    assert alone.result == outcome.result[-1]


def test_the_comparison_has_a_row_for_chance_and_one_for_each_run(run_script, good, outcomes):
    evaluation = [f"{{good}}/{name}.evaluation.json" for name in CONFIGS]
    outcome = run_script(COMPARE, {"good": good}, evaluation=evaluation)
    uniform, *rows = outcome.result
    assert [row["model"] for row in rows] == list(CONFIGS)
    assert uniform["validation loss"] == pytest.approx(math.log(outcomes["tokenizer"].result["vocab_size"]))
    for row, model in zip(rows, CONFIGS, strict=True):
        result, evaluated = outcomes[model].result, outcomes[f"{model}_raw"].result
        assert row["validation loss"] == result["val_loss"] < uniform["validation loss"]
        assert row["bits per byte"] == result["val_bits_per_byte"] < uniform["bits per byte"]
        assert row["held-out bits per byte"] == evaluated["bits_per_byte"] < uniform["held-out bits per byte"]
    table = outcome.stderr.splitlines()
    assert len(table) == 5
    assert all(line.startswith("|") for line in table)


def test_generated_text_is_the_training_datas_words_and_the_seed_decides_it(run_script, good):
    first, again = (run_script(GENERATE, {"good": good}, max_new_tokens=12, top_k=6).result for _ in range(2))
    assert first["texts"] == again["texts"]
    (text,) = first["texts"]
    assert text["prompt"] == "alpha beta"
    assert re.search("|".join(WORDS), text["text"])


def test_a_loss_that_is_not_finite_is_one_sentence_and_status_1(run_script, good, tmp_path):
    outcome = run_script(TRAIN, {"good": good, "out": tmp_path / "out"}, learning_rate=1e30, clip_norm=0)
    assert (outcome.status, outcome.stdout) == (1, "")
    assert "not finite at step" in outcome.sentence


def folders_and(**flags):
    """Changes that leave nothing of the good training command but its folders, and add these flags."""
    return {**{name: None for name in GOOD[TRAIN] if name not in ("train_path", "val_path", "model_dir")}, **flags}


@pytest.fixture
def run_copy(good, tmp_path):
    """The places of a finished run that the test may change."""
    shutil.copytree(good / "algpt2", tmp_path / "run")
    return {"good": good, "out": tmp_path / "run"}


def test_a_run_keeps_the_settings_that_a_later_command_leaves_out(run_script, run_copy, outcomes):
    assert run_script(TRAIN, run_copy, **folders_and()).result == outcomes["algpt2"].result
    longer = run_script(TRAIN, run_copy, **folders_and(steps=STEPS + 2, learning_rate=5e-3)).result
    assert longer["step"] == STEPS + 2
    (entry,) = json.loads((run_copy["out"] / "run.json").read_text())["history"]
    assert entry["changes"] == {"total_steps": [STEPS, STEPS + 2], "learning_rate": [1e-2, 5e-3]}


def test_a_run_is_set_back_by_a_command_that_trains_nothing(run_script, run_copy):
    refused = run_script(TRAIN, run_copy, rewind_to=15)
    assert refused.status == 2
    assert "received 15: it has 10, 20, 30" in refused.sentence
    result = run_script(TRAIN, run_copy, rewind_to=20).result
    assert (result["step"], result["moved"]) == (20, 1)
    assert sorted(one.name for one in (run_copy["out"] / "checkpoints").iterdir()) == ["step_00000010", "step_00000020"]


def test_a_new_run_begins_with_a_deeper_copy_of_another(run_script, good, tmp_path):
    config = {**CONFIGS["gpt2"], "n_layer": 2}
    (tmp_path / "deeper.json").write_text(json.dumps(config))
    flags = {"config_path": f"{tmp_path}/deeper.json", "initialize_from": "{good}/gpt2", "steps": 5, "val_path": None}
    places = {"good": good, "out": tmp_path / "run"}
    assert "has 1: choose another" in run_script(TRAIN, places, **flags).sentence
    assert not (tmp_path / "run").exists()
    run_script(TRAIN, places, **flags, duplicate_layers=True)
    (first, *_) = [line["loss"] for line in read_metrics(str(tmp_path / "run"))]
    (cold, *_) = [line["loss"] for line in read_metrics(str(good / "gpt2")) if "loss" in line]
    assert first < cold - 0.5


def test_the_records_of_a_step_are_shown_as_text(run_script, good):
    shown = run_script(INSPECT, {"good": good}, model_dir="{good}/algpt2", replay=7, count=None).result
    assert len(shown["records"]) == 4
    for record in shown["records"]:
        assert re.fullmatch(r"train-0000\d-of-00003.tfrecord:\d+", record["record"])
        assert len(re.findall("|".join(WORDS), record["text"])) >= 3


@pytest.mark.parametrize(("flags", "rule"), [({"replay": 7}, "needs --model_dir"), ({"model_dir": "x"}, "give both")])
def test_a_replay_needs_both_of_its_flags(run_script, good, flags, rule):
    outcome = run_script(INSPECT, {"good": good}, **flags)
    assert outcome.status == 2
    assert rule in outcome.sentence


def test_a_damaged_metrics_file_is_one_sentence_and_stays_as_it_is(run_script, run_copy):
    (run_copy["out"] / "metrics.jsonl").write_text('{"step": 5}\n{"st')
    outcome = run_script(TRAIN, run_copy, **folders_and(steps=STEPS + 2))
    assert outcome.status == 2
    assert "metrics.jsonl must hold one JSON object a line" in outcome.stderr
    assert (run_copy["out"] / "metrics.jsonl").read_text() == '{"step": 5}\n{"st'
