"""Rows of 2048 tokens, eight blocks of attention, in which attention stays within documents: made, trained, scored."""

import json
from pathlib import Path

from command_line import EVALUATE, RECORDS, TRAIN, WORDS


def test_rows_of_2048_tokens_with_a_document_mask_train_and_are_scored(run_script, good, tmp_path):
    lines = [json.dumps({"text": " ".join(WORDS * length)}) for length in range(1, 90)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "heldout.txt").write_text(" ".join(WORDS * 400))
    places = {"good": good, "here": tmp_path, "out": tmp_path / "records"}
    sizes = {"seq_len": 2048, "num_shards": 1, "val_fraction": 0.4}
    records = run_script(RECORDS, places, input="{here}/corpus.jsonl", **sizes).result
    data = {"train_path": "{here}/records", "val_path": "{here}/records"}
    settings = {"config_path": "{good}/gpt2.json", "seq_len": 2048, "document_mask": True, "batch_size": 1, "steps": 2}
    result = run_script(TRAIN, {**places, "out": tmp_path / "run"}, **data, **settings).result
    model = json.loads(Path(tmp_path, "run", "run.json").read_text())["model_config"]
    assert (model["seq_len"], model["document_eos_id"]) == (2048, records["vocab_size"] - 1)
    assert result["tokens"] == 2 * 2048
    flags = {"checkpoint": "{here}/run", "data": "{here}/heldout.txt"}
    scores = run_script(EVALUATE, places, **flags).result
    assert scores["window"] == 2048
    assert scores["scored_tokens"] > 2048
    assert abs(scores["total_nats"] / scores["scored_tokens"] - result["val_loss"]) < 1
