"""A run's folder belongs to one configuration: the same command resumes it, every other one is refused."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from tiny_models import GPT2_CONFIG

from algpt2 import storage
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.records.record_set import RecordSet
from algpt2.runs.folder import (
    RUN_NAME,
    RunIdentity,
    begin_run_folder,
    claim_run_folder,
    compare_run,
    read_run,
    record_changes,
    require_places,
)

TRAIN_CONFIG = TrainConfig(total_steps=10)
RECORDS = RecordSet(
    files=(), shards=(), folder="data", seq_len=16, vocab_size=64, eos_id=63, tokenizer_sha256="ab" * 32
)


def identity(records=RECORDS, initial_weights=None, **changes):
    """The identity of a run with changed fields of the model or the training configuration."""
    model = {field.name for field in dataclasses.fields(GPT2_CONFIG)} & set(changes)
    return RunIdentity(
        dataclasses.replace(GPT2_CONFIG, **{name: changes[name] for name in model}),
        dataclasses.replace(TRAIN_CONFIG, **{name: changes[name] for name in set(changes) - model}),
        records.fingerprint,
        initial_weights,
    )


@pytest.fixture
def folder(tmp_path):
    """A folder that a run has claimed."""
    claim_run_folder(str(tmp_path / "run"), identity())
    return tmp_path / "run"


@pytest.fixture
def stepped(folder):
    """A folder whose run has made steps."""
    (folder / "metrics.jsonl").write_text('{"step": 2, "loss": 5.0}\n')
    return folder


def test_a_new_folder_is_claimed_by_a_readable_file(folder):
    fields = json.loads((folder / RUN_NAME).read_text())
    assert fields["model_config"]["n_layer"] == 2
    assert fields["train_config"]["total_steps"] == 10
    assert fields["train_fingerprint"] == RECORDS.fingerprint
    assert [file.name for file in folder.iterdir()] == [RUN_NAME]


def test_an_empty_folder_may_be_claimed(tmp_path):
    claim_run_folder(str(tmp_path), identity())
    assert (tmp_path / RUN_NAME).exists()


def test_a_folder_that_a_run_was_killed_in_while_claiming_it_may_be_claimed(tmp_path):
    (tmp_path / ".tmp-of-a-killed-run").write_text("{")
    claim_run_folder(str(tmp_path), identity())
    assert (tmp_path / RUN_NAME).exists()


def test_the_same_configuration_is_accepted_again_and_nothing_is_rewritten(folder):
    (folder / "checkpoints").mkdir()
    before = (folder / RUN_NAME).stat().st_ino
    claim_run_folder(str(folder), identity())
    claim_run_folder(f"{folder}/", identity(dataclasses.replace(RECORDS, folder="moved")))
    assert (folder / RUN_NAME).stat().st_ino == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed: 0, now 1"),
        ({"batch_size": 8}, "batch_size: 32, now 8"),
        ({"seq_len": 8}, "seq_len: 16, now 8"),
        ({"vocab_size": 65}, "vocab_size: 64, now 65"),
        ({"initial_weights": "other"}, "initialize_from: None, now 'other'"),
        ({"share_layers": True}, "share_layers: False, now True"),
        ({"records": dataclasses.replace(RECORDS, tokenizer_sha256="cd" * 32)}, "training records: '"),
    ],
)
def test_another_configuration_is_refused_naming_only_what_differs(stepped, change, named):
    folder = stepped
    before = (folder / RUN_NAME).read_bytes()
    with pytest.raises(
        UserError, match="resumes only with the model, data and batch_size, seed, .* it began with"
    ) as raised:
        claim_run_folder(str(folder), identity(**change))
    assert f"differs in {named}" in str(raised.value)
    assert str(raised.value).count(", now ") == 1
    assert (folder / RUN_NAME).read_bytes() == before


def test_every_difference_is_named(stepped):
    with pytest.raises(UserError, match="n_layer: 2, now 3; batch_size: 32, now 8"):
        claim_run_folder(str(stepped), identity(n_layer=3, batch_size=8))


def test_a_run_that_made_no_step_makes_room_for_one_with_corrected_records(folder, caplog):
    caplog.set_level("INFO")
    corrected = identity(dataclasses.replace(RECORDS, tokenizer_sha256="cd" * 32), batch_size=8, learning_rate=1e-4)
    (folder / "metrics.jsonl").write_text("")
    (folder / "tensorboard").mkdir()
    record = claim_run_folder(str(folder), corrected)
    assert record == read_run(str(folder))
    assert record.identity == corrected
    differences = identity().fixed_differences(corrected)
    assert len(differences) == 2
    assert record.history == ({"step": 0, "begun_anew": differences},)
    assert "holds a run that made no step, so this one takes its place (batch_size: 32, now 8; training" in caplog.text
    claim_run_folder(str(folder), identity())
    assert [entry["step"] for entry in read_run(str(folder)).history] == [0, 0], "what was done before stays"


@pytest.mark.parametrize(
    "left",
    [
        *("metrics.jsonl", "samples.jsonl", "skipped.jsonl", "result.json"),
        "checkpoints/step_00000003/COMMITTED",
    ],
)
def test_whatever_a_step_has_left_holds_the_folder_for_its_run(folder, left):
    (folder / left).parent.mkdir(parents=True, exist_ok=True)
    (folder / left).write_text("{}")
    with pytest.raises(UserError, match="differs in seed: 0, now 1"):
        claim_run_folder(str(folder), identity(seed=1))
    assert read_run(str(folder)).identity == identity()


@pytest.mark.parametrize("left", ["checkpoints/step_00000003/state.json", "checkpoints/step_00000003_backup/COMMITTED"])
def test_what_is_no_checkpoint_of_the_run_does_not_hold_the_folder(folder, left):
    (folder / left).parent.mkdir(parents=True)
    (folder / left).write_text("{}")
    assert claim_run_folder(str(folder), identity(seed=1)).identity == identity(seed=1)
    assert (folder / left).exists(), "it is left to what deletes unfinished checkpoints"


def test_comparing_alone_changes_nothing(folder):
    _, differences = compare_run(str(folder), identity(seed=1))
    assert differences == ["seed: 0, now 1"]
    assert read_run(str(folder)).identity == identity()


def test_a_run_on_cloud_storage_that_made_no_step_makes_room_too(bucket, tmp_path):
    folder = f"{bucket}/{tmp_path.name}/run"
    claim_run_folder(folder, identity())
    assert claim_run_folder(folder, identity(seed=1)).identity == identity(seed=1)
    storage.write_text(f"{folder}/metrics.jsonl", '{"step": 2}\n')
    with pytest.raises(UserError, match="differs in seed: 1, now 2"):
        claim_run_folder(folder, identity(seed=2))


@pytest.mark.parametrize("name", ["run.json", ".lock", "metrics.jsonl", "result.json"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_another_thing_in_the_place_of_a_file_is_named_with_the_flag(folder, name, make):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    with pytest.raises(UserError, match=f"{name} must be a file in --model_dir, and {folder}/{name} is none: move it"):
        require_places(str(folder))


def test_a_folder_in_the_place_of_the_runs_file_is_named_by_whatever_reads_it(folder):
    (folder / RUN_NAME).unlink()
    (folder / RUN_NAME / "deeper").mkdir(parents=True)
    with pytest.raises(UserError, match="run.json must be a file in --model_dir"):
        read_run(str(folder))


def test_a_file_in_the_place_of_a_folder_is_named_with_the_flag(folder):
    (folder / "checkpoints").write_text("mine")
    with pytest.raises(UserError, match=f"checkpoints must be a folder in --model_dir, and {folder}/checkpoints is no"):
        require_places(str(folder))
    with pytest.raises(UserError, match=f"--model_dir must be a folder, and {folder}/checkpoints is none"):
        require_places(str(folder / "checkpoints"))


@pytest.mark.parametrize("name", [".lock", ""])
def test_what_may_not_be_written_is_named_with_the_flag(folder, name, monkeypatch):
    """The tests may run as root, who may write everywhere, so the question is answered for the system."""
    (folder / ".lock").write_text("")
    path = storage.join(str(folder), name).rstrip("/")
    monkeypatch.setattr(os, "access", lambda asked, mode: asked != path)
    with pytest.raises(UserError, match=f"--model_dir must be writable, and {path} is not: permit it"):
        require_places(str(folder))


def test_the_folder_of_a_run_and_one_that_does_not_exist_yet_are_in_order(stepped, tmp_path):
    (stepped / "checkpoints").mkdir()
    (stepped / ".lock").write_text("")
    require_places(str(stepped))
    require_places(str(tmp_path / "none"))


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="must be new or empty"):
        claim_run_folder(str(tmp_path), identity())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff", b'{"model_config": {}}'])
def test_a_run_file_that_describes_no_run_is_refused(folder, content):
    (folder / RUN_NAME).write_bytes(content)
    with pytest.raises(UserError, match=r"run.json must describe a run, and it .*: name another --model_dir"):
        claim_run_folder(str(folder), identity())


@pytest.mark.parametrize("name", ["model_config", "train_config", "train_fingerprint"])
@pytest.mark.parametrize("value", [3, [], None])
def test_a_run_file_whose_fields_have_other_types_is_refused(folder, name, value):
    fields = json.loads((folder / RUN_NAME).read_text())
    (folder / RUN_NAME).write_text(json.dumps({**fields, name: value}))
    with pytest.raises(UserError, match="must describe a run"):
        claim_run_folder(str(folder), identity())


@pytest.mark.parametrize(("section", "name"), [("train_config", "total_steps"), ("model_config", "n_layer")])
def test_a_run_file_that_lacks_a_field_is_not_taken_for_this_run(stepped, section, name):
    folder = stepped
    fields = json.loads((folder / RUN_NAME).read_text())
    del fields[section][name]
    (folder / RUN_NAME).write_text(json.dumps(fields))
    with pytest.raises(UserError, match=name):
        claim_run_folder(str(folder), identity())


def claim_and_change(folder, identity, step):
    """What a start of the run does; returns what changed."""
    return record_changes(str(folder), claim_run_folder(str(folder), identity), identity, step)


def test_settings_given_anew_are_recorded_with_the_step_from_which_they_hold(folder):
    changed = identity(learning_rate=1e-4, total_steps=20)
    assert claim_run_folder(str(folder), changed).identity == identity()
    assert read_run(str(folder)).identity == identity(), "a claim alone changes nothing"
    changes = {"total_steps": [10, 20], "learning_rate": [6e-4, 1e-4]}
    assert claim_and_change(folder, changed, 7) == changes
    assert read_run(str(folder)).identity == changed
    assert claim_and_change(folder, changed, 9) == {}
    claim_and_change(folder, identity(learning_rate=1e-3, total_steps=20), 9)
    assert json.loads((folder / RUN_NAME).read_text())["history"] == [
        {"step": 7, "changes": changes},
        {"step": 9, "changes": {"learning_rate": [1e-4, 1e-3]}},
    ]


def test_the_result_of_a_run_that_goes_on_is_kept_under_its_step(folder):
    (folder / "result.json").write_text('{"step": 10, "val_loss": 3.5}')
    claim_and_change(folder, identity(), 10)
    assert (folder / "result.json").exists(), "nothing changed, so the run does not go on"
    claim_and_change(folder, identity(total_steps=20), 10)
    assert not (folder / "result.json").exists()
    assert json.loads((folder / "result_step_00000010.json").read_text())["val_loss"] == 3.5


def test_a_folder_that_is_begun_is_left_unread_when_it_is_begun_again(folder):
    """So that what counts is read once, under the lock."""
    (folder / RUN_NAME).write_text("{")
    begin_run_folder(str(folder), identity(seed=1))
    assert (folder / RUN_NAME).read_text() == "{"


def test_a_run_of_an_earlier_version_has_the_defaults_of_newer_settings(folder):
    fields = json.loads((folder / RUN_NAME).read_text())
    del fields["train_config"]["ema_decay"], fields["history"], fields["initial_weights"]
    (folder / RUN_NAME).write_text(json.dumps(fields))
    assert read_run(str(folder)).identity == identity()
