"""metrics.jsonl: in order, whole after a resume, and never silently wrong."""

import json

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.runs.folder import METRICS_NAME
from algpt2.tracking.metrics import StepFile, read_lines, read_metrics, tag_of


class AtOnce:
    """A publisher that writes when it is asked to."""

    def publish(self, path, parts, rest_seconds=0.0, required=True):
        storage.write_bytes(path, b"".join(parts))


def log_of(folder, up_to_step):
    return StepFile(str(folder / METRICS_NAME), up_to_step, AtOnce())


def test_a_run_that_wrote_none_has_no_metrics(tmp_path):
    assert read_metrics(str(tmp_path)) == []
    log_of(tmp_path, 0)
    assert list(tmp_path.iterdir()) == [], "and begins none before there is a line"


def test_lines_are_read_back_as_they_were_written_in_order(tmp_path):
    log = log_of(tmp_path, 0)
    log.write(10, {"loss": 2.5})
    log.write(10, {"val_loss": 2.75})
    log.write(20, {"loss": float("inf"), "note": "line\nbreak\u2028"})
    assert read_lines(str(tmp_path / METRICS_NAME)) == [
        {"step": 10, "loss": 2.5},
        {"step": 10, "val_loss": 2.75},
        {"step": 20, "loss": None, "note": "line\nbreak\u2028"},
    ]
    lines = (tmp_path / METRICS_NAME).read_text().split("\n")
    assert [json.loads(line)["step"] for line in lines[:-1]] == [10, 10, 20]
    assert lines[-1] == ""


def test_each_line_is_handed_over_as_soon_as_it_is_written(tmp_path):
    log = log_of(tmp_path, 0)
    for step in range(1, 4):
        log.write(step, {})
        assert [line["step"] for line in read_metrics(str(tmp_path))] == list(range(1, step + 1))


def test_a_resumed_run_drops_the_lines_after_its_checkpoint_and_goes_on_behind_it(tmp_path):
    """Killed after step 40, resumed from the checkpoint of step 20: steps 30 and 40 come a second time."""
    log = log_of(tmp_path, 0)
    for step in (10, 20, 30, 40):
        log.write(step, {"attempt": 1})
    resumed = log_of(tmp_path, 20)
    resumed.write(30, {"attempt": 2})
    assert [(line["step"], line["attempt"]) for line in read_metrics(str(tmp_path))] == [(10, 1), (20, 1), (30, 2)]


def test_a_run_that_starts_again_from_0_drops_all_lines(tmp_path):
    log_of(tmp_path, 0).write(10, {})
    log_of(tmp_path, 0).write(5, {})
    assert read_metrics(str(tmp_path)) == [{"step": 5}]


@pytest.mark.parametrize(
    "content", [b'{"step": 1}\n{"st', b"\xff\n", b"3\n", b"[]\n", b'{"loss": 1.0}\n', b'{"step": "1"}\n', b"\n"]
)
def test_a_damaged_file_is_refused_with_its_name_and_a_way_out(tmp_path, content):
    (tmp_path / METRICS_NAME).write_bytes(content)
    with pytest.raises(UserError, match=r"metrics.jsonl must hold one JSON object a line.*move it away"):
        log_of(tmp_path, 1)
    assert (tmp_path / METRICS_NAME).read_bytes() == content


def test_rows_of_one_step_are_written_together(tmp_path):
    log_of(tmp_path, 0).write(4, {"loss": 1.5}, {"loss": 2.5})
    assert read_metrics(str(tmp_path)) == [{"step": 4, "loss": 1.5}, {"step": 4, "loss": 2.5}]


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        ("loss", "train/loss"),
        ("val_bits_per_byte", "validation/bits_per_byte"),
        ("mfu", "speed/mfu"),
        ("checkpoint_wait_seconds", "checkpoints/checkpoint_wait_seconds"),
        ("ema_val_loss", "validation/ema_loss"),
        ("learning_rate", "train/learning_rate"),
        ("quiz_accuracy", "evaluation/quiz_accuracy"),
    ],
)
def test_charts_are_grouped_by_what_they_tell_of(key, tag):
    assert tag_of(key) == tag


@pytest.mark.parametrize(("value", "found"), [('"x"', '"x", not a number'), ("1" * 400, "beyond all floats")])
def test_a_figure_that_is_no_number_is_refused_with_its_line(tmp_path, value, found):
    (tmp_path / METRICS_NAME).write_text(f'{{"step": 1, "loss": null}}\n{{"step": 2, "loss": {value}}}\n')
    with pytest.raises(UserError, match=f"must hold figures, and its line 2: loss is {found}"):
        read_metrics(str(tmp_path))
