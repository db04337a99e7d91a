"""The files of results, and a study that is read from them alone."""

import dataclasses
import json

import pytest
from tiny_study import RECORDS, SELECTING, finished, record_of

from algpt2.errors import UserError
from algpt2.model.sizes import training_flops_per_token
from algpt2.studies.cells import CONFIRMATION, SELECTION, Cell
from algpt2.studies.results import failed_result, finished_result, read_results, read_study


@pytest.fixture
def study(tmp_path):
    """A study's folder without runs: one arm is done, of the other one cell has failed."""
    record, output = record_of(SELECTING), str(tmp_path / "study")
    record.write(output)
    for rate, bits in ((0.001, 2.0), (0.003, 1.5), (0.009, 1.75)):
        for seed in (1, 2):
            finished(Cell("gpt2", rate, seed, SELECTION), bits, record).write(output)
    finished(Cell("gpt2", 0.003, 11, CONFIRMATION), 1.25, record).write(output)
    failed_result(record, Cell("shared", 0.001, 1, SELECTION), "the disk was full", diverged=False).write(output)
    return output


def test_a_study_is_read_from_its_results_without_its_runs(study):
    read = read_study(study)
    assert read.spec == record_of(SELECTING).spec
    assert read.chosen_rates == {"gpt2": 0.003}
    assert read.rate_choices["gpt2"].extra_rates == (0.009,)
    by_cell = {result.cell: result for result in read.results}
    confirmed = by_cell[Cell("gpt2", 0.003, 11, CONFIRMATION)]
    assert (confirmed.status, confirmed.val_bits_per_byte, confirmed.val_nats_per_token) == ("finished", 1.25, 2.5)
    assert by_cell[Cell("gpt2", 0.003, 12, CONFIRMATION)].status == "missing"
    failed = by_cell[Cell("shared", 0.001, 1, SELECTION)]
    assert (failed.status, failed.reason, failed.val_bits_per_byte) == ("failed", "the disk was full", None)
    assert [result.status for result in read.results].count("missing") == 1 + 3


def test_a_result_says_what_was_trained_on_what(study):
    read = read_study(study)
    config = read.spec.model_config(read.spec.arm("shared"))
    for result in read.results:
        if result.cell.arm == "shared":
            assert result.parameters == config.parameter_count()
            assert result.flops == 1280 * training_flops_per_token(config)
        assert result.tokens == 1280
        assert (result.train_fingerprint, result.val_fingerprint) == (
            RECORDS.train_fingerprint,
            RECORDS.val_fingerprint,
        )
        assert result.tokenizer_sha256 == RECORDS.tokenizer_sha256


def test_an_arm_with_records_of_its_own_has_their_fingerprint():
    record = record_of(SELECTING.replace("[arms.gpt2]", '[arms.gpt2]\nrecords = "legacy"'))
    record = dataclasses.replace(record, records=dataclasses.replace(RECORDS, arm_records={"legacy": "other"}))
    assert finished(Cell("gpt2", 0.001, 1, SELECTION), 1.0, record).train_fingerprint == "other"
    assert finished(Cell("shared", 0.001, 1, SELECTION), 1.0, record).train_fingerprint == RECORDS.train_fingerprint


def test_a_validation_loss_that_is_not_finite_is_a_failure():
    figures = {"tokens_per_second": 1.0, "val_loss": None, "val_bits_per_byte": None}
    result = finished_result(record_of(), Cell("gpt2", 0.01, 11, CONFIRMATION), figures)
    assert (result.status, result.diverged) == ("failed", True)


def test_a_study_on_cloud_storage_is_read_like_one_on_a_disk(bucket):
    record, output = record_of(), f"{bucket}/results/study"
    record.write(output)
    finished(Cell("gpt2", 0.01, 11, CONFIRMATION), 1.25, record).write(output)
    assert [result.status for result in read_study(output).results] == ["finished", "missing", "missing", "missing"]


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(UserError, match="must hold study.json"):
        read_study(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda fields: fields.pop("status"), "lacks status"),
        (lambda fields: fields["cell"].update(seed=5), "is of gpt2/lr-0.003-seed-5"),
        (lambda fields: fields.update(tokens="many"), "not a whole number"),
    ],
)
def test_a_result_that_is_another_is_refused(study, tmp_path, change, sentence):
    path = tmp_path / "study" / "results" / "gpt2" / "lr-0.003-seed-11.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="lr-0.003-seed-11") as raised:
        read_results(study, record_of(SELECTING).spec)
    assert sentence in str(raised.value)


def test_a_study_file_that_is_none_is_refused(study, tmp_path):
    (tmp_path / "study" / "study.json").write_text('{"spec": "question = 1", "records": {}}')
    with pytest.raises(UserError, match="study.json"):
        read_study(study)
