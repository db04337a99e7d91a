"""Training from records of one document each, which are packed anew in each epoch."""

import json
from pathlib import Path

import pytest
from command_line import CONFIGS, TRAIN, call, to_arguments
from tiny_run import tiny_run, train_tiny, train_until_killed
from training_process import final_tensors

from algpt2.config.records import RecordOptions
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records import document_order, document_rows
from algpt2.tracking.metrics import read_metrics


@pytest.fixture(scope="module")
def documents_folder(records_folder, tmp_path_factory):
    """The documents of `records_folder`, one a record."""
    corpus, folder = Path(records_folder).parent, tmp_path_factory.mktemp("documents") / "records"
    options = RecordOptions(seq_len=16, num_shards=3, val_fraction=0.2, format="documents")
    make_tfrecords([str(corpus / "corpus.jsonl")], str(corpus / "tokenizer"), str(folder), options)
    return str(folder)


def test_a_run_that_dies_in_mid_epoch_and_is_resumed_ends_bit_identical(documents_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(document_order, "BLOCK_TOKENS", 64)
    monkeypatch.setattr(document_rows, "WINDOW_TOKENS", 400)
    whole, resumed = (tiny_run(documents_folder, tmp_path / name) for name in ("whole", "resumed"))
    train_tiny(whole)
    train_until_killed(resumed, monkeypatch, 4)
    train_tiny(resumed)
    assert final_tensors(resumed.model_dir, 10) == final_tensors(whole.model_dir, 10)


def test_train_tfrecords_trains_for_epochs_of_documents(documents_folder, scripts, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({**CONFIGS["algpt2"], "vocab_size": 300, "n_layer": 1}))
    flags = {
        **{"train_path": documents_folder, "val_path": documents_folder, "config_path": str(tmp_path / "model.json")},
        **{"model_dir": str(tmp_path / "run"), "epochs": 2, "batch_size": 4, "learning_rate": 1e-2},
        **{"jit_compile": False, "log_every_steps": 5},
    }
    result = call(scripts[TRAIN]["main"], to_arguments(flags, {})).result
    rows = json.loads(Path(documents_folder, "manifest.json").read_text())["train"]["target_tokens"] // 16
    assert result["step"] == 2 * rows // 4
    losses = [line["loss"] for line in read_metrics(str(tmp_path / "run")) if "loss" in line]
    assert losses[-1] < losses[0] - 1
    assert result["val_loss"] < 5
