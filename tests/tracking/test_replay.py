import dataclasses

import pytest
from batches import context, take
from tiny_models import ALGPT2_CONFIG

from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.records.record_set import load_tokenizer, open_record_set
from algpt2.runs.folder import RunIdentity, claim_run_folder
from algpt2.tracking.replay import replay

CONFIG = TrainConfig(total_steps=50, batch_size=4, seed=3)


@pytest.fixture
def model_dir(records_folder, tmp_path):
    fingerprint = open_record_set([records_folder], "train").fingerprint
    config = dataclasses.replace(ALGPT2_CONFIG, vocab_size=300)
    claim_run_folder(str(tmp_path / "run"), RunIdentity(config, CONFIG, fingerprint))
    return str(tmp_path / "run")


def test_the_records_of_a_step_are_those_that_training_read_there(records_folder, model_dir):
    from algpt2.records.input_pipeline import train_batches

    record_set = open_record_set([records_folder], "train")
    batches = take(train_batches(record_set, 4, 3, 0, context()), 20)
    tokenizer = load_tokenizer(records_folder, record_set.tokenizer_sha256)
    for step in (0, 19):
        shown = replay([records_folder], model_dir, step)
        assert shown["step"] == step
        assert [one["text"] for one in shown["records"]] == [tokenizer.decode(ids) for ids in batches[step]]


@pytest.mark.parametrize("step", [-1, 50])
def test_a_step_that_the_run_does_not_have_is_refused(records_folder, model_dir, step):
    with pytest.raises(UserError, match=f"from 0 to 49, received {step}"):
        replay([records_folder], model_dir, step)


def test_other_records_than_the_runs_are_refused(records_folder, model_dir):
    (shard, *_) = open_record_set([records_folder], "train").files
    with pytest.raises(UserError, match="must be the training records of the run"):
        replay([shard], model_dir, 0)


def test_a_folder_without_a_run_is_refused(records_folder, tmp_path):
    with pytest.raises(UserError, match="holds none"):
        replay([records_folder], str(tmp_path), 0)
