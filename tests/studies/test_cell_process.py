"""The process of a cell: what it is told, and that it ends with the study's process."""

import dataclasses
import subprocess

import pytest
from tiny_study import SPEC

from algpt2.config.cadence import Cadence
from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError
from algpt2.studies.cell_process import read_order, write_order
from algpt2.studies.cells import CONFIRMATION, Cell
from algpt2.studies.children import CELL_COMMAND
from algpt2.studies.orders import CellSettings, Orders, read_arm_records
from algpt2.studies.spec import parse_spec

CELL = Cell("shared", 0.01, 11, CONFIRMATION)


def orders(records_folder, text=SPEC, arm_paths=(), **fields):
    settings = CellSettings((records_folder,), (records_folder,), dict(arm_paths), fields, TrackingConfig(), "local")
    return Orders(parse_spec(text), settings, "out")


def test_an_order_is_read_as_it_was_written(records_folder):
    order = orders(records_folder, save_every_minutes=2).order(CELL)
    assert read_order(write_order(order)) == order
    assert write_order(order).count(b"\n") == 1
    assert order.model_dir == "out/cells/shared/lr-0.01-seed-11"
    assert (order.train_config.seed, order.train_config.learning_rate, order.tpu) == (11, 0.01, "local")


def test_a_cell_is_validated_at_its_end_and_keeps_one_checkpoint_unless_told_otherwise(records_folder):
    order = orders(records_folder).order(CELL)
    assert order.cadence == Cadence(eval_every_steps=order.train_config.total_steps, keep_checkpoints=1)
    order = orders(records_folder, eval_every_steps=5, keep_checkpoints=2).order(CELL)
    assert (order.cadence.eval_every_steps, order.cadence.keep_checkpoints) == (5, 2)


def test_an_arm_with_records_of_its_own_is_trained_on_these(records_folder):
    text = SPEC.replace("share_layers = true }", 'share_layers = true }\nrecords = "legacy"')
    shards = [f"{records_folder}/train-0000{number}-of-00003.tfrecord" for number in (0, 2)]
    made = orders(records_folder, text, read_arm_records([f"legacy={shard}" for shard in shards]))
    assert made.order(CELL).train_path == tuple(shards)
    assert made.order(dataclasses.replace(CELL, arm="gpt2")).train_path == (records_folder,)
    identity = made.records_identity()
    assert identity.of_arm("legacy") == made.run(CELL).train_records.fingerprint
    assert identity.of_arm("legacy") != identity.of_arm(None)


def test_the_bugs_of_an_arm_are_those_of_its_run(records_folder):
    text = SPEC.replace("batch_size = 4,", 'batch_size = 4, optimizer = "adafactor",')
    text = text.replace("[arms.shared]", '[arms.shared]\nbugs = ["adafactor_without_memory"]')
    made = orders(records_folder, text)
    assert read_order(write_order(made.order(CELL))).bugs == ("adafactor_without_memory",)
    assert made.run(CELL).identity.optimizer_changes == ("adafactor_without_memory",)
    assert made.run(dataclasses.replace(CELL, arm="gpt2")).identity.optimizer_changes == ()


def test_records_that_an_arm_names_must_be_given_and_no_others(records_folder):
    text = SPEC.replace("share_layers = true }", 'share_layers = true }\nrecords = "legacy"')
    with pytest.raises(UserError, match="add --arm_records legacy=PATH"):
        orders(records_folder, text)
    with pytest.raises(UserError, match="no arm names legacy"):
        orders(records_folder, arm_paths={"legacy": (records_folder,)})
    with pytest.raises(UserError, match="--arm_records must be NAME=PATH, received 'legacy'"):
        read_arm_records(["legacy"])


def test_a_model_that_does_not_fit_the_records_is_refused_with_its_arm(records_folder):
    with pytest.raises(UserError, match="in the arm gpt2, records and model must have the same seq_len"):
        orders(records_folder, SPEC.replace("seq_len = 16", "seq_len = 32"))


def test_it_ends_when_the_study_does(records_folder):
    """A study that is killed closes the pipe, whatever else it could not do."""
    process = subprocess.Popen(CELL_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    order = dataclasses.replace(orders(records_folder).order(CELL), model_dir="/nowhere/at/all")
    process.stdin.write(write_order(order))
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (1, b"")
