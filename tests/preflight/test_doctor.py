import dataclasses
import json
import shutil
import types

import pytest
from command_line import TRAIN, call, snapshot

from algpt2.config.cadence import Cadence
from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.devices import strategies, wheels
from algpt2.errors import UserError
from algpt2.preflight import doctor, doctor_checks
from algpt2.preflight.doctor_checks import ERROR, OK, WARNING, Devices
from algpt2.records.record_set import open_record_set
from algpt2.runs.folder import claim_run_folder
from algpt2.runs.plan import Run
from algpt2.runs.request import RunRequest
from algpt2.training.start_checks import START_CHECKS

MODEL = GPTConfig(vocab_size=300, seq_len=16, n_layer=1, n_head=2, d_model=32)
CONFIG = TrainConfig(total_steps=20, batch_size=4)
CHECKS = (
    *("tensorflow", "devices", "model", "training records", "validation records", "training configuration"),
    *("cadence", "tracking", "model_dir", "agreement", "data paths"),
    *(check.name for check in START_CHECKS),
    *("run folder", "writing", "disk", "memory", "duration"),
)


@pytest.fixture
def run(records_folder):
    train, val = (open_record_set([records_folder], split) for split in ("train", "val"))
    return Run(MODEL, CONFIG, Cadence(), train, val, None)


@pytest.fixture
def request_of_run(scripts, records_folder, tmp_path):
    """A sound run, as the command line asks for it with some more flags. A test breaks a part of it."""
    (tmp_path / "tiny.json").write_text(json.dumps(MODEL.to_dict()))

    def request_of_run(*flags):
        records = ["--train_path", records_folder, "--val_path", records_folder]
        model = ["--config_path", str(tmp_path / "tiny.json"), "--model_dir", str(tmp_path / "run")]
        parsed = scripts[TRAIN]["parse"]([*records, *model, "--steps", "20", "--batch_size", "4", "--doctor", *flags])
        return RunRequest(parsed)

    return request_of_run


@pytest.fixture
def sound(request_of_run):
    """The sound run."""
    return request_of_run()


def fail(*_):
    raise UserError("this is broken: mend it.")


def found(findings, level):
    return {finding.check: finding.message for finding in findings if finding.level == level}


def test_a_sound_run_on_a_cpu_has_nothing_but_a_warning_of_the_cpu(sound):
    findings = doctor.examine(sound)
    assert found(findings, ERROR) == {}
    assert set(found(findings, WARNING)) == {"devices"}
    assert tuple(finding.check for finding in findings) == CHECKS


@pytest.mark.parametrize(
    ("part", "check"),
    [
        ("model_config", "model"),
        ("train_records", "training records"),
        ("val_records", "validation records"),
        ("train_config", "training configuration"),
        ("cadence", "cadence"),
        ("tracking", "tracking"),
    ],
)
def test_a_part_that_is_broken_is_one_error_and_every_other_check_still_reports(sound, monkeypatch, part, check):
    monkeypatch.setattr(sound, part, fail)
    findings = doctor.examine(sound)
    assert found(findings, ERROR) == {check: "this is broken: mend it."}
    assert tuple(finding.check for finding in findings) == CHECKS
    assert found(findings, OK)["writing"]
    for message in found(findings, WARNING).values():
        assert message.startswith(("not checked: mend ", "no TPU or GPU"))


def test_a_run_without_a_folder_is_an_error(request_of_run):
    findings = doctor.examine(request_of_run("--model_dir", ""))
    assert "--model_dir must name a folder" in found(findings, ERROR)["model_dir"]
    assert found(findings, OK)["duration"]


def test_an_error_that_nobody_foresaw_is_a_finding_too(sound, monkeypatch):
    monkeypatch.setattr(sound, "model_config", lambda: 1 / 0)
    findings = doctor.examine(sound)
    assert found(findings, ERROR)["model"].startswith("ZeroDivisionError: division by zero")
    assert found(findings, OK)["training records"]


def test_without_a_usable_tensorflow_nothing_imports_it_and_the_rest_is_checked(sound, monkeypatch):
    monkeypatch.setattr(wheels, "load_tensorflow", fail)
    monkeypatch.setattr(strategies, "create_strategy", lambda tpu: pytest.fail("TensorFlow was used"))
    monkeypatch.setattr(strategies, "require_readable_by_tpu", lambda *_: pytest.fail("TensorFlow was used"))
    findings = doctor.examine(sound)
    assert set(found(findings, ERROR)) == {"tensorflow"}
    assert {"model", "training records", "tokenizer", "agreement", "writing", "disk"} <= set(found(findings, OK))
    assert found(findings, WARNING)["devices"] == "not checked: mend tensorflow first."


def test_the_exit_status_is_2_only_for_errors(capsys):
    good, bad = doctor.Finding("a", WARNING, "so so"), doctor.Finding("b", ERROR, "two\nlines")
    assert doctor.report([good]) == 0
    assert doctor.report([good, bad]) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[1:] == ["warning  a: so so", "error    b: two lines"]


def test_the_wheel_for_tpus_is_asked_for_only_with_a_tpu(monkeypatch):
    versions = {"tensorflow-cpu": "2.21.0", "keras": "3.15.1"}
    monkeypatch.setattr(doctor_checks, "version_of", versions.get)
    assert doctor_checks.tensorflow(None).level == OK
    assert "tensorflow-cpu 2.21.0" in doctor_checks.tensorflow(None).message
    assert doctor_checks.tensorflow("local").level == WARNING
    versions.update({"tensorflow-tpu": "2.20.0", "libtpu": "0.0.30"})
    assert doctor_checks.tensorflow("local").level == OK
    assert "libtpu 0.0.30" in doctor_checks.tensorflow("local").message


def test_a_tpu_that_answers_is_counted_and_one_that_does_not_is_an_error(request_of_run, monkeypatch):
    eight = types.SimpleNamespace(num_replicas_in_sync=8)
    monkeypatch.setattr(strategies, "create_strategy", lambda tpu: eight)
    monkeypatch.setenv("TPU_ACCELERATOR_TYPE", "v3-8")
    assert doctor_checks.devices("local", None).value == Devices(8, "v3")
    assert doctor_checks.devices("local", "v4").value == Devices(8, "v4")
    monkeypatch.setattr(strategies, "create_strategy", fail)
    findings = doctor.examine(request_of_run("--tpu", "pod"))
    assert found(findings, ERROR)["devices"] == "this is broken: mend it."
    assert "gs:// only" in found(findings, ERROR)["data paths"]


def test_the_cpu_is_a_warning_and_an_unknown_kind_of_device_an_error(monkeypatch):
    assert doctor_checks.devices(None, None).level == WARNING
    with pytest.raises(UserError, match="must be one of v2, v3"):
        doctor_checks.devices(None, "v99")
    workers = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers))
    assert doctor_checks.devices(None, None).value is None


def test_a_run_without_validation_is_a_warning():
    assert doctor_checks.validation_records(None).level == WARNING


def test_records_and_model_that_do_not_agree_and_damaged_records_are_errors(request_of_run, records_folder, tmp_path):
    findings = doctor.examine(request_of_run("--seq_len", "32"))
    assert "must have the same seq_len" in found(findings, ERROR)["agreement"]
    folder = shutil.copytree(records_folder, tmp_path / "records")
    shard = next(folder.glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    findings = doctor.examine(request_of_run("--train_path", str(folder)))
    assert "it is truncated" in found(findings, ERROR)["training records"]


def test_a_folder_is_new_or_this_very_run_or_refused(run, tmp_path):
    folder = tmp_path / "run"
    assert "is new" in doctor_checks.run_folder_state(run, str(folder)).message
    folder.mkdir()
    claim_run_folder(str(folder), run.identity)
    before = snapshot(folder)
    assert "from step 0 of 20" in doctor_checks.run_folder_state(run, str(folder)).message
    other = dataclasses.replace(run, train_config=dataclasses.replace(CONFIG, seed=1))
    assert "made no step: this one would take its place" in doctor_checks.run_folder_state(other, str(folder)).message
    assert snapshot(folder) == before
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(UserError, match="seed: 0, now 1"):
        doctor_checks.run_folder_state(other, str(folder))
    (folder / "run.json").rename(folder / "notes.txt")
    with pytest.raises(UserError, match="holds other files"):
        doctor_checks.run_folder_state(run, str(folder))


def test_the_probe_leaves_nothing_behind_and_makes_no_folder(tmp_path):
    before = snapshot(tmp_path)
    assert doctor_checks.writing(str(tmp_path / "a" / "b")).level == OK
    assert snapshot(tmp_path) == before


def test_a_place_where_nothing_can_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--model_dir must be writable"):
        doctor_checks.writing(str(tmp_path / "file" / "run"))


def test_a_refusal_of_cloud_storage_names_the_permission_to_grant(no_cloud, monkeypatch):
    from google.api_core import exceptions
    from google.cloud import storage as gcs

    def refuse(*_, **__):
        raise exceptions.Forbidden("403")

    monkeypatch.setattr(gcs.Blob, "upload_from_filename", refuse)
    with pytest.raises(UserError, match=r"roles/storage\.objectAdmin"):
        doctor_checks.writing("gs://bucket/run")


def test_too_little_room_for_the_checkpoints_is_an_error(run, tmp_path, monkeypatch):
    size = 12 * MODEL.parameter_count()
    usage = types.SimpleNamespace(free=4 * size)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    assert doctor_checks.disk(run, str(tmp_path)).level == OK
    usage.free -= 1
    assert doctor_checks.disk(run, str(tmp_path)).level == ERROR
    (tmp_path / "old_checkpoint").write_bytes(b"x")  # it will make room for a new one
    assert doctor_checks.disk(run, str(tmp_path)).level == OK


def test_checkpoints_that_stay_for_good_need_room_too(run, tmp_path, monkeypatch):
    usage = types.SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    steps = run.train_config.total_steps
    needed = [
        doctor_checks.disk(dataclasses.replace(run, cadence=Cadence(keep_every_steps=every)), str(tmp_path)).message
        for every in (0, steps)
    ]
    assert [message.split(" checkpoints")[0] for message in needed] == ["4", "5"]


def test_a_micro_batch_beyond_the_memory_of_a_replica_is_a_warning():
    config = TrainConfig(total_steps=1, compute_dtype="bfloat16")
    assert doctor_checks.memory(GPTConfig.from_preset("gpt2"), config, 4, Devices(8, "v3")).level == OK
    verdict = doctor_checks.memory(GPTConfig.from_preset("gpt2"), config, 64, Devices(8, "v3"))
    assert (verdict.level, "16.00 GiB: raise --accumulation_steps" in verdict.message) == (WARNING, True)
    assert doctor_checks.memory(GPTConfig.from_preset("gpt2"), config, 64, Devices(8, None)).level == OK


def test_the_time_is_that_of_the_assumed_utilisation(run):
    """The original's run: 90k steps of 512 x 1024 tokens, 8.55e8 FLOPs each, at 7.1% of 64 v3 chips took 20 hours."""
    records = dataclasses.replace(run.train_records, seq_len=1024)
    config = TrainConfig(total_steps=90_000, batch_size=512)
    original = Run(GPTConfig.from_preset("gpt2"), config, Cadence(), records, None, None)
    message = doctor_checks.duration(original, Devices(128, "v3"), 0.0711).message
    assert "47,185,920,000 tokens" in message
    assert ", 20.0 h at 7% of the peak of v3." in message
    half_depth = dataclasses.replace(config, initial_n_layer=6, depth_warmup_steps=90_000 - 1)
    grown = dataclasses.replace(original, train_config=half_depth)
    assert ", 12.7 h" in doctor_checks.duration(grown, Devices(128, "v3"), 0.0711).message, "from six layers to twelve"
    assert "give --device_kind" in doctor_checks.duration(original, Devices(1, None), 0.3).message
    with pytest.raises(UserError, match="--mfu must be a fraction"):
        doctor_checks.duration(original, Devices(1, "v3"), 30)


def test_the_script_examines_a_run_and_writes_nothing(scripts, records_folder, tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(MODEL.to_dict()))
    flags = ["--train_path", records_folder, "--val_path", records_folder, "--config_path", str(tmp_path / "tiny.json")]
    flags += ["--model_dir", str(tmp_path / "run"), "--batch_size", "4", "--doctor"]
    before = snapshot(tmp_path)
    outcome = call(scripts[TRAIN]["main"], [*flags, "--device_kind", "v3"])
    assert {finding["level"] for finding in outcome.result} == {OK, WARNING}
    assert [line.split()[0] for line in outcome.stderr.splitlines()] == [f["level"] for f in outcome.result]
    outcome = call(scripts[TRAIN]["main"], [*flags, "--batch_size", "0", "--config_path", "none"])
    assert outcome.status == 2
    errors = {finding["check"] for finding in json.loads(outcome.stdout) if finding["level"] == ERROR}
    assert errors == {"model", "training configuration"}
    assert snapshot(tmp_path) == before
