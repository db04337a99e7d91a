import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ALGPT2_CONFIG

from algpt2.errors import TrainingStopped, UserError
from algpt2.metrics import read_metrics
from algpt2.record_set import open_record_set
from algpt2.run_plan import Run
from algpt2.train_config import Cadence, TrainConfig
from algpt2.training import Trainer
from algpt2.training import train as train_run

MODEL_CONFIG = dataclasses.replace(ALGPT2_CONFIG, vocab_size=300, n_layer=1)
CADENCE = Cadence(log_every_steps=2, eval_every_steps=4, save_every_steps=3, steps_per_loop=5)


@pytest.fixture
def run(records_folder, tmp_path):
    return Run(
        model_config=MODEL_CONFIG,
        train_config=TrainConfig(total_steps=10, batch_size=4, learning_rate=1e-2, jit_compile=False),
        cadence=CADENCE,
        train_records=open_record_set([records_folder], "train"),
        val_records=open_record_set([records_folder], "val"),
        model_dir=str(tmp_path / "run"),
    )


def train(run):
    return train_run(run, tf.distribute.get_strategy())


def final_tensors(run):
    folder = Path(run.model_dir) / "checkpoints" / "step_00000010"
    return [(folder / name).read_bytes() for name in ("model.safetensors", "optimizer.safetensors")]


class Killed(BaseException):
    """Stands for the process dying: nothing in the program may handle it."""


def kill_at(monkeypatch, step):
    advance = Trainer._advance

    def dying(self, iterator, n_steps):
        if self.step >= step:
            raise Killed
        return advance(self, iterator, n_steps)

    monkeypatch.setattr(Trainer, "_advance", dying)


def test_a_run_logs_validates_and_saves_at_its_cadence(run):
    result = train(run)
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


def test_the_result_is_kept_in_the_runs_folder(run):
    result = train(run)
    assert json.loads((Path(run.model_dir) / "result.json").read_text()) == result


def test_a_run_interrupted_and_resumed_ends_bit_identical(run, tmp_path, monkeypatch):
    uninterrupted = dataclasses.replace(run, model_dir=str(tmp_path / "uninterrupted"))
    train(uninterrupted)
    for step in (2, 6, 8):
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            with pytest.raises(Killed):
                train(run)
    train(run)
    assert final_tensors(run) == final_tensors(uninterrupted)
    steps = [line["step"] for line in read_metrics(run.model_dir) if "loss" in line]
    assert steps == [2, 4, 6, 8, 10], "lines of repeated steps are written once"


def test_a_finished_run_does_nothing_but_report_again(run):
    first = train(run)
    before = final_tensors(run)
    assert train(run) == first
    (Path(run.model_dir) / "result.json").unlink()
    assert train(run)["val_loss"] == pytest.approx(first["val_loss"], rel=1e-6)
    assert final_tensors(run) == before


def test_another_configuration_in_the_same_folder_is_refused(run):
    train(run)
    before = final_tensors(run)
    other = dataclasses.replace(run, train_config=dataclasses.replace(run.train_config, learning_rate=2e-2))
    with pytest.raises(UserError, match="differs in learning_rate: 0.01, now 0.02"):
        train(other)
    assert final_tensors(run) == before


def test_a_loss_that_is_not_finite_stops_the_run_names_the_step_and_keeps_the_checkpoint(run, monkeypatch):
    from algpt2.train_step import StepResults, TrainStep

    call = TrainStep.__call__

    def diverging(self, iterator, first_step, n_steps):
        losses, norms = call(self, iterator, first_step, n_steps)
        steps = np.arange(first_step, first_step + n_steps)
        return StepResults(np.where(steps >= 7, np.nan, losses), norms)

    monkeypatch.setattr(TrainStep, "__call__", diverging)
    with pytest.raises(TrainingStopped, match="not finite at step 7 "):
        train(run)
    assert [p.name for p in sorted((Path(run.model_dir) / "checkpoints").iterdir())][-1] == "step_00000006"


def test_an_infinite_learning_rate_really_is_caught(run):
    config = dataclasses.replace(run.train_config, learning_rate=1e30, clip_norm=0.0)
    with pytest.raises(TrainingStopped, match="not finite at step"):
        train(dataclasses.replace(run, train_config=config))


def test_a_damaged_shard_in_the_middle_of_a_run_is_one_sentence(run):
    file = Path(run.train_records.files[0])
    copies = Path(run.model_dir).parent / "damaged"
    copies.mkdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    (copies / file.name).write_bytes(data)
    damaged = dataclasses.replace(run.train_records, files=(str(copies / file.name), *run.train_records.files[1:]))
    with pytest.raises(UserError, match="a shard is damaged"):
        train(dataclasses.replace(run, train_records=damaged))


def test_training_on_two_replicas_reaches_the_same_loss(run, tmp_path):
    from test_train_step import TWO, strategy_of

    one = train(run)
    on_two = dataclasses.replace(run, model_dir=str(tmp_path / "two"))
    two = train_run(on_two, strategy_of(TWO))
    assert two["val_loss"] == pytest.approx(one["val_loss"], rel=1e-4)
