"""A run as one value: model and records must fit together, and its numbers follow from them."""

import dataclasses
import json

import pytest
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.cadence import Cadence
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.records.record_set import RecordSet
from algpt2.records.shard_entry import Shard
from algpt2.runs.plan import Run, steps_of_epochs


def shard(records):
    return Shard(f"shard-of-{records}", records, size_bytes=0, crc32c="0" * 8, target_bytes=0)


def record_set(records=100, **changes):
    fields = RecordSet(
        files=("data/a",),
        shards=(shard(records),),
        folder="data",
        seq_len=GPT2_CONFIG.seq_len,
        vocab_size=GPT2_CONFIG.vocab_size,
        eos_id=63,
        tokenizer_sha256="ab" * 32,
    )
    return dataclasses.replace(fields, **changes)


def run(model_config=GPT2_CONFIG, train=None, val=None, **train_fields):
    train_config = TrainConfig(**{"total_steps": 10, "batch_size": 8, **train_fields})
    return Run(model_config, train_config, Cadence(), train or record_set(), val, "run")


@pytest.mark.parametrize(
    ("epochs", "records", "batch_size", "steps"),
    [(1, 100, 10, 10), (1, 109, 10, 10), (2, 109, 10, 21), (0.5, 100, 10, 5), (1, 10, 10, 1), (0.1, 100, 10, 1)],
)
def test_epochs_are_as_many_full_batches_as_all_their_records_make(epochs, records, batch_size, steps):
    """Two epochs of 109 records make 21 batches of 10: the first epoch's last 9 are not dropped."""
    assert steps_of_epochs(epochs, record_set(records), batch_size) == steps


def test_records_are_counted_over_all_shards():
    assert steps_of_epochs(1, record_set(shards=(shard(4), shard(6))), 5) == 2


@pytest.mark.parametrize("epochs", [0, -1, 0.09, float("nan"), float("inf")])
def test_epochs_that_make_no_full_batch_or_no_end_are_refused(epochs):
    with pytest.raises(UserError, match=r"epochs.* of 100 records .* of 10.*--epochs"):
        steps_of_epochs(epochs, record_set(), 10)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("seq_len", [8, 32])
def test_records_of_another_length_are_refused_with_both_lengths(split, seq_len):
    with pytest.raises(UserError, match=rf"same seq_len, and data has {seq_len}, the model 16.*--seq_len {seq_len}"):
        run(**{split: record_set(seq_len=seq_len)})


@pytest.mark.parametrize("split", ["train", "val"])
def test_records_of_a_larger_vocabulary_than_the_models_are_refused(split):
    with pytest.raises(UserError, match="at least the tokenizer's, and data was made with 65, the model has 64"):
        run(**{split: record_set(vocab_size=65)})


@pytest.mark.parametrize("split", ["train", "val"])
def test_documents_that_begin_with_another_id_than_the_models_are_refused_with_theirs(split):
    masked = dataclasses.replace(GPT2_CONFIG, document_eos_id=62)
    assert run(masked, record_set(eos_id=62), record_set(eos_id=62)).model_config == masked
    sets = {"train": record_set(eos_id=62), "val": record_set(eos_id=62), split: record_set()}
    with pytest.raises(UserError, match="document_eos_id must be .* which is 63 in data, received 62: .*document_mask"):
        run(masked, **sets)


def test_a_model_may_have_more_rows_than_the_tokenizer_has_ids():
    assert run(train=record_set(vocab_size=50)).train_records.vocab_size == 50


def test_validation_records_of_another_tokenizer_are_refused_with_both_folders():
    with pytest.raises(UserError, match="the same tokenizer, and data and other were not"):
        run(val=record_set(folder="other", tokenizer_sha256="cd" * 32))


def test_a_schedule_in_tokens_that_does_not_fit_the_run_is_refused():
    with pytest.raises(UserError, match="warmup_tokens must be at most"):
        run(total_steps=10, batch_size=2, warmup_tokens=10 * 2 * GPT2_CONFIG.seq_len + 1.0)


def test_the_data_paths_are_the_shards_of_both_splits():
    assert run().data_paths() == ["data/a"]
    assert run(val=record_set(files=("data/b", "data/c"))).data_paths() == ["data/a", "data/b", "data/c"]


def test_the_description_says_what_follows_from_the_configuration_as_plain_json():
    described = run(ALGPT2_CONFIG, val=record_set(7), total_steps=50, batch_size=8).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["tokens"] == 50 * 8 * 16
    assert described["epochs"] == pytest.approx(50 * 8 / 100)
    assert (described["train_records"], described["val_records"], described["steps"]) == (100, 7, 50)
    assert described["parameters"] == ALGPT2_CONFIG.parameter_count()
    assert described["model_config"]["embedding_size"] == 8
    assert described["train_config"]["batch_size"] == 8
    assert described["cadence"]["save_every_steps"] == Cadence().save_every_steps
    assert run().describe()["val_records"] == 0
