import contextlib
import dataclasses
import json
import shutil
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from tiny_run import rate_of_update, spoil_steps, tiny_run, train_until_killed, with_config
from tiny_run import train_tiny as train
from tiny_step import TWO, strategy_of

from algpt2.checkpoints.folder import checkpoint_step, committed_checkpoints
from algpt2.config.tracking import TrackingConfig
from algpt2.errors import TrainingStopped, UserError
from algpt2.evaluation.validation import Validator
from algpt2.model.sizes import mfu
from algpt2.records.input_pipeline import record_ids
from algpt2.records.record_set import open_record_set
from algpt2.runs.folder import RunRecord, begin_run_folder
from algpt2.runs.plan import InitialWeights
from algpt2.runs.rewind import rewind
from algpt2.storage.deadline import Deadline
from algpt2.tracking.metrics import read_metrics
from algpt2.training import first_batches, process
from algpt2.training.step import TrainStep


@pytest.fixture
def run(records_folder, tmp_path):
    return tiny_run(records_folder, tmp_path / "run", TrackingConfig())


@pytest.fixture(scope="module")
def trained_once(records_folder, tmp_path_factory):
    run = tiny_run(records_folder, tmp_path_factory.mktemp("trained") / "run", TrackingConfig())
    return run, train(run)


@pytest.fixture
def finished(run, trained_once):
    """The run and its result, after a training that several tests share."""
    trained, result = trained_once
    shutil.copytree(trained.model_dir, run.model_dir)
    return run, result


def final_tensors(run):
    folder = Path(run.model_dir) / "checkpoints" / "step_00000010"
    return [(folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


def wait_until(condition):
    deadline = Deadline(20)
    while not condition():
        assert deadline.seconds_left()
        time.sleep(0.01)


@contextlib.contextmanager
def reads_of(path):
    """Yields a list that grows at each opening of a file for reading, however the program opens it."""
    reads, watching = [], True

    def watch(event, arguments):
        if watching and event == "open" and str(arguments[0]) == str(path) and str(arguments[1]).startswith("r"):
            reads.append(path)

    sys.addaudithook(watch)  # it stays for as long as the process lives
    try:
        yield reads
    finally:
        watching = False


def test_a_run_logs_validates_and_saves_at_its_cadence(finished):
    run, result = finished
    metrics = read_metrics(run.model_dir)
    assert [line["step"] for line in metrics if "loss" in line] == [2, 4, 6, 8, 10]
    assert [line["step"] for line in metrics if "val_loss" in line] == [4, 8, 10]
    assert sorted(p.name for p in (Path(run.model_dir) / "checkpoints").iterdir()) == [
        "step_00000006",
        "step_00000009",
        "step_00000010",
    ]
    assert result["step"] == 10
    assert result["tokens"] == 10 * 4 * 16
    assert result["val_loss"] == metrics[-1]["val_loss"] < np.log(300)
    assert result["val_bits_per_byte"] == pytest.approx(
        result["val_loss"] * run.val_records.records * 16 / np.log(2) / run.val_records.target_bytes
    )


def test_the_learning_rate_of_a_line_is_that_of_the_last_update_before_it(run, caplog):
    """With a warm-up and a decay, the rate of the next step would be another one in every line."""
    run = with_config(run, warmup_steps=3, decay="linear")
    with caplog.at_level("INFO"):
        train(run)
    rates = {line["step"]: line["learning_rate"] for line in read_metrics(run.model_dir) if "loss" in line}
    assert rates == {step: rate_of_update(run, step) for step in (2, 4, 6, 8, 10)}
    assert rates[2] == pytest.approx(1e-2 * 2 / 3)
    assert rates[10] == pytest.approx(1e-2 * 0.1), "the last update has exactly the final rate"
    lines = [record.getMessage() for record in caplog.records if "learning rate" in record.getMessage()]
    assert [line.split("learning rate ")[1].split()[0] for line in lines] == [f"{rate:.3g}" for rate in rates.values()]


def test_the_utilisation_counts_every_replica_of_the_kind_that_is_named(run):
    run = dataclasses.replace(run, tracking=TrackingConfig(tensorboard=False, device_kind="v3"))
    train(run, strategy_of(TWO))
    line = [line for line in read_metrics(run.model_dir) if "loss" in line][-1]
    assert line["mfu"] == pytest.approx(mfu(run.model_config, line["tokens_per_second"], 2, "v3"))


@pytest.mark.parametrize("begun", [False, True], ids=["a new run", "a run that goes on"])
def test_run_json_is_read_once_at_a_start(run, monkeypatch, begun):
    """Read twice, the second reading could find another run than the one that was checked."""
    if begun:
        train_until_killed(run, monkeypatch, 4)
    with reads_of(Path(run.model_dir) / "run.json") as reads:
        train(with_config(run, learning_rate=2e-2, decay="constant"))
    assert len(reads) == 1


def test_the_result_is_kept_in_the_runs_folder(finished):
    run, result = finished
    assert json.loads((Path(run.model_dir) / "result.json").read_text()) == result


def test_a_run_interrupted_and_resumed_ends_bit_identical(run, trained_once, monkeypatch):
    for step in (2, 8):
        train_until_killed(run, monkeypatch, step)
    train(run)
    assert final_tensors(run) == final_tensors(trained_once[0])
    steps = [line["step"] for line in read_metrics(run.model_dir) if "loss" in line]
    assert steps == [2, 4, 6, 8, 10], "lines of repeated steps are written once"


def test_a_finished_run_does_nothing_but_report_again(finished):
    run, first = finished
    before = final_tensors(run)
    assert train(run) == first
    (Path(run.model_dir) / "result.json").unlink()
    metrics = read_metrics(run.model_dir)
    assert train(run)["val_loss"] == pytest.approx(first["val_loss"], rel=1e-6)
    assert read_metrics(run.model_dir) == metrics, "no line is written twice"
    assert final_tensors(run) == before


def test_another_seed_in_the_same_folder_is_refused(finished):
    run, _ = finished
    before = final_tensors(run)
    with pytest.raises(UserError, match="differs in seed: 0, now 1"):
        train(with_config(run, seed=1))
    assert final_tensors(run) == before


def test_a_resumed_run_goes_on_with_the_learning_rate_that_is_given_now(run, monkeypatch):
    train_until_killed(run, monkeypatch, 6)
    train(with_config(run, learning_rate=2e-2, decay="constant"))
    rates = {line["step"]: line["learning_rate"] for line in read_metrics(run.model_dir) if "loss" in line}
    assert rates[10] == pytest.approx(2e-2)
    assert rates[4] < 1e-2
    (entry,) = json.loads((Path(run.model_dir) / "run.json").read_text())["history"]
    assert entry == {"step": 6, "changes": {"learning_rate": [0.01, 0.02], "decay": ["cosine", "constant"]}}


def test_a_finished_run_goes_on_to_a_later_end(finished):
    run, first = finished
    assert train(with_config(run, total_steps=14))["step"] == 14
    kept = json.loads((Path(run.model_dir) / "result_step_00000010.json").read_text())
    assert kept == first


def test_a_run_set_back_and_trained_on_ends_as_it_did(finished):
    run, _ = finished
    before = final_tensors(run)
    assert rewind(run.model_dir, 6)["moved"] == 2
    train(run)
    assert final_tensors(run) == before
    steps = [line["step"] for line in read_metrics(run.model_dir) if "loss" in line]
    assert steps == [2, 4, 6, 8, 10]


def test_a_run_begins_with_the_weights_of_another_and_a_step_of_zero(finished, tmp_path):
    run, _ = finished
    initial = InitialWeights(run.model_dir)
    warm = dataclasses.replace(run, model_dir=str(tmp_path / "warm"), initial_weights=initial)
    train(warm)
    cold, started = (next(line for line in read_metrics(one.model_dir) if "loss" in line) for one in (run, warm))
    assert started["step"] == cold["step"] == 2
    assert started["loss"] < cold["loss"] - 0.05
    assert train(warm)["step"] == 10, "a resumed run needs its own checkpoints only"


def skipping_run(run, monkeypatch, bad_steps):
    """The run with losses that are no number at some steps, whose updates are therefore skipped."""
    spoil_steps(monkeypatch, run, bad_steps)
    return with_config(run, skip_spikes=1e6, spike_window_steps=4, max_skips=2)


def skipped_lines(run):
    return [json.loads(line) for line in (Path(run.model_dir) / "skipped.jsonl").read_text().splitlines()]


def test_a_skipped_step_is_counted_and_its_records_are_named(run, monkeypatch):
    skipping = skipping_run(run, monkeypatch, [5, 8])
    assert train(skipping)["skipped_steps"] == 2
    lines = skipped_lines(run)
    assert [line["step"] for line in lines] == [5, 8]
    assert [line["loss"] for line in lines] == [None, None], "as JSON writes what is no number"
    assert lines[0]["records"] == [str(one) for one in record_ids(run.train_records, 4, 0, 5)]
    counts = [line["skipped_steps"] for line in read_metrics(run.model_dir) if "loss" in line]
    assert counts == [0, 0, 1, 1, 2]


def test_skipped_steps_and_their_count_are_the_same_after_a_resume(run, tmp_path, monkeypatch):
    uninterrupted = skipping_run(dataclasses.replace(run, model_dir=str(tmp_path / "whole")), monkeypatch, [5, 8])
    expected = train(uninterrupted)
    run = dataclasses.replace(uninterrupted, model_dir=run.model_dir)
    train_until_killed(run, monkeypatch, 8)
    assert train(run)["skipped_steps"] == expected["skipped_steps"] == 2
    assert final_tensors(run) == final_tensors(uninterrupted)
    assert skipped_lines(run) == skipped_lines(uninterrupted)
    states = [json.loads((Path(one.model_dir) / STATE).read_text())["skips"] for one in (run, uninterrupted)]
    assert states[0] == states[1]
    assert len(states[0]["losses"]) == 4


STATE = "checkpoints/step_00000010/state.json"


def test_too_many_skips_in_a_row_stop_the_run_and_nothing_after_them_is_saved(run, monkeypatch):
    with pytest.raises(TrainingStopped, match="3 updates in a row were skipped, more than --max_skips 2"):
        train(skipping_run(run, monkeypatch, [6, 7, 8]))
    assert [p.name for p in sorted((Path(run.model_dir) / "checkpoints").iterdir())][-1] == "step_00000006"


def test_the_moving_average_is_validated_beside_the_weights_and_survives_a_resume(run, tmp_path, monkeypatch):
    run = with_config(run, ema_decay=0.8)
    uninterrupted = dataclasses.replace(run, model_dir=str(tmp_path / "uninterrupted"))
    expected = train(uninterrupted)
    assert expected["ema_val_loss"] != expected["val_loss"]
    assert abs(expected["ema_val_loss"] - expected["val_loss"]) < 0.5
    train_until_killed(run, monkeypatch, 8)
    train(run)
    assert final_tensors(run) == final_tensors(uninterrupted)


def test_a_run_with_growing_sequences_survives_a_resume(run, tmp_path, monkeypatch):
    run = with_config(run, initial_seq_len=4, seq_len_warmup_steps=7)
    uninterrupted = dataclasses.replace(run, model_dir=str(tmp_path / "uninterrupted"))
    train(uninterrupted)
    train_until_killed(run, monkeypatch, 4)
    train(run)
    assert final_tensors(run) == final_tensors(uninterrupted)


def test_on_one_replica_there_is_nothing_to_share_out_and_the_log_says_so(run, caplog):
    with caplog.at_level("INFO"):
        train(with_config(run, total_steps=2, shard_optimizer_state=True))
    assert "--shard_optimizer_state shares nothing out, because there is one replica" in caplog.text


def test_checkpoints_are_scored_in_both_dtypes_if_asked(run, caplog):
    run = with_config(run, compute_dtype="bfloat16")
    run = dataclasses.replace(run, cadence=dataclasses.replace(run.cadence, numerics_batches=1))
    with caplog.at_level("INFO"):
        train(run)
    lines = [record.getMessage() for record in caplog.records if "the compute dtype changes" in record.getMessage()]
    assert [line.split()[1] for line in lines] == ["3", "6", "9", "10"]


def test_a_loss_that_is_not_finite_stops_the_run_names_the_step_and_keeps_the_checkpoint(run, monkeypatch):
    spoil_steps(monkeypatch, run, [7])
    with pytest.raises(TrainingStopped, match=r"not finite at step 7 \(loss nan, gradient norm nan\)"):
        train(run)
    assert [p.name for p in sorted((Path(run.model_dir) / "checkpoints").iterdir())][-1] == "step_00000006"


def test_an_infinite_learning_rate_really_is_caught(run):
    config = dataclasses.replace(run.train_config, learning_rate=1e30, clip_norm=0.0)
    with pytest.raises(TrainingStopped, match="not finite at step"):
        train(dataclasses.replace(run, train_config=config))


@pytest.mark.parametrize(
    ("losing", "last_step", "written"),
    [
        (TrainStep, 2, [{"loss": 2}]),
        (Validator, 4, [{"loss": 2}, {"loss": 4}]),
    ],
    ids=["in steps", "in validation"],
)
def test_a_run_that_lost_its_folder_stops_before_it_writes_anything_there(run, monkeypatch, losing, last_step, written):
    lock = types.SimpleNamespace(lost=False, confirmed=True)
    call = losing.__call__

    def found():
        lines = [
            {key: line["step"] for key in line if key in ("loss", "val_loss")} for line in read_metrics(run.model_dir)
        ]
        return lines, [checkpoint_step(folder) for folder in committed_checkpoints(run.model_dir)]

    expected = written, [step for step in (3,) if step < last_step]

    def lose(self, *arguments):
        if losing is Validator or arguments[1] == last_step:
            wait_until(lambda: found() == expected)  # what is written in the background is written before
            lock.lost, lock.confirmed = True, False
        return call(self, *arguments)

    monkeypatch.setattr(process, "locked", lambda _: contextlib.nullcontext(lock))
    monkeypatch.setattr(losing, "__call__", lose)
    with pytest.raises(TrainingStopped, match=f"was taken over .* after step {last_step} without saving"):
        train(run)
    assert found() == expected


def test_nothing_is_written_while_the_folder_may_be_anothers(run, monkeypatch):
    """As in an outage longer than the lease: no line and no checkpoint, until a renewal has found that it is held."""
    lock = types.SimpleNamespace(lost=False, confirmed=False)
    call = TrainStep.__call__

    def find_out(self, *arguments):
        if arguments[1] >= 8 and not lock.confirmed:
            assert [file.name for file in Path(run.model_dir).glob("[mc]*")] == []
            lock.confirmed = True
        return call(self, *arguments)

    monkeypatch.setattr(process, "locked", lambda _: contextlib.nullcontext(lock))
    with monkeypatch.context() as patch:
        patch.setattr(TrainStep, "__call__", find_out)
        train(run)
    assert [line["step"] for line in read_metrics(run.model_dir) if "loss" in line] == [2, 4, 6, 8, 10]
    assert committed_checkpoints(run.model_dir)[-1].endswith("step_00000010")


def with_damaged_shard(records, folder, record):
    """Records whose first shard is damaged in the record with this 0-based number, as its checksum would have told."""
    file, shard = Path(records.files[0]), records.shards[0]
    folder.mkdir()
    data = bytearray(file.read_bytes())
    data[(2 * record + 1) * len(data) // (2 * shard.records)] ^= 1
    (folder / file.name).write_bytes(data)
    return dataclasses.replace(records, files=(str(folder / file.name), *records.files[1:]))


def test_a_damaged_shard_in_the_middle_of_a_run_is_one_sentence(run, tmp_path, monkeypatch):
    monkeypatch.setattr(first_batches, "require_first_batches", lambda *_: None)
    damaged = with_damaged_shard(
        run.train_records, tmp_path / "damaged", record=run.train_records.shards[0].records // 2
    )
    with pytest.raises(UserError, match=f"{damaged.files[0]} must have CRC32C .* it is damaged; copy it again"):
        train(dataclasses.replace(run, train_records=damaged))


@pytest.mark.parametrize("records", ["train_records", "val_records"])
def test_records_that_fail_at_the_first_batch_claim_nothing(run, tmp_path, records):
    damaged = with_damaged_shard(getattr(run, records), tmp_path / "damaged", record=0)
    with pytest.raises(UserError, match=f"{damaged.files[0]} must have CRC32C .* it is damaged"):
        train(dataclasses.replace(run, **{records: damaged}))
    assert not Path(run.model_dir).exists()
    assert train(run)["step"] == 10


def test_a_run_that_goes_on_does_not_look_for_its_place_in_the_records_twice(run, monkeypatch):
    train_until_killed(run, monkeypatch, 4)
    monkeypatch.setattr(first_batches, "train_batches", lambda *_: pytest.fail("the training records are read"))
    assert train(run)["step"] == 10


def test_a_run_that_never_made_a_step_does_not_hold_its_folder_against_corrected_records(run, monkeypatch):
    others = open_record_set(run.train_records.files[::-1], "train")
    corrected = dataclasses.replace(run, train_records=others)
    train_until_killed(run, monkeypatch, 0)
    assert train(corrected)["step"] == 10
    with pytest.raises(UserError, match="differs in training records"):
        train(run)


def test_a_run_killed_before_its_first_checkpoint_holds_its_folder_by_its_figures(run, monkeypatch):
    train_until_killed(run, monkeypatch, 2)
    assert read_metrics(run.model_dir)
    with pytest.raises(UserError, match="differs in seed: 0, now 1"):
        train(with_config(run, seed=1))
    assert train(run)["step"] == 10


def test_training_on_two_replicas_reaches_the_same_loss(run, tmp_path):
    one = train(run)
    on_two = dataclasses.replace(run, model_dir=str(tmp_path / "two"))
    two = train(on_two, strategy_of(TWO))
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-4)


def test_a_folder_that_another_run_begins_in_the_same_instant_is_refused(run, monkeypatch):
    """That run had the lock before this one, made steps and ended."""
    other, locked = with_config(run, seed=1), process.locked

    def lock_after_another_claim(model_dir):
        RunRecord(other.identity).write(model_dir)
        (Path(model_dir) / "metrics.jsonl").write_text('{"step": 2}\n')
        return locked(model_dir)

    monkeypatch.setattr(process, "locked", lock_after_another_claim)
    with pytest.raises(UserError, match="differs in seed: 1, now 0"):
        train(run)


def test_a_run_without_a_step_makes_no_room_while_a_process_holds_its_folder(run):
    begin_run_folder(run.model_dir, run.identity)
    before = (Path(run.model_dir) / "run.json").read_bytes()
    with process.locked(run.model_dir), pytest.raises(UserError, match="one process at a time"):
        train(with_config(run, seed=1))
    assert (Path(run.model_dir) / "run.json").read_bytes() == before
