"""Event files as TensorBoard itself reads them."""

import resource
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import rate_of_update, tiny_run, train_tiny, train_until_killed

from algpt2 import storage
from algpt2.config.tracking import TrackingConfig
from algpt2.storage.deadline import Deadline
from algpt2.tracking import tensorboard
from algpt2.tracking.metrics import Sample, read_metrics
from algpt2.tracking.tensorboard import TensorBoard


def read(folder):
    """Returns what TensorBoard finds in a folder; it takes a thousand points of a curve unless told."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def board_in(folder, first_step):
    """Returns the events of a process that writes on a disk, where the publisher has no part."""
    return TensorBoard(str(folder), first_step, publisher=None)


def curve(folder, tag):
    return [(point.step, point.value) for point in read(folder).Scalars(tag)]


def test_numbers_are_curves_by_step_and_other_values_are_left_out(tmp_path):
    board = board_in(tmp_path, 0)
    board.write(10, {"loss": 2.5, "tokens_per_second": None, "failed_checkpoints": 1})
    board.write(20, {"loss": 2.25, "note": "a"})
    board.write(20, {"val_loss": 3.0})
    assert curve(tmp_path, "train/loss") == [(10, 2.5), (20, 2.25)], "on disk before the file is closed"
    board.close()
    assert curve(tmp_path, "validation/loss") == [(20, 3.0)]
    assert read(tmp_path).Tags()["scalars"] == ["train/loss", "checkpoints/failed_checkpoints", "validation/loss"]


def test_what_a_killed_run_wrote_past_the_step_it_resumes_from_is_not_shown(tmp_path):
    killed = board_in(tmp_path, 0)
    for step in (10, 20, 30, 40):
        killed.write(step, {"loss": 1.0, "gradient_norm": 1.0})
    resumed = board_in(tmp_path, 20)
    resumed.write(30, {"loss": 2.0})
    assert curve(tmp_path, "train/loss") == [(10, 1.0), (20, 1.0), (30, 2.0)]
    assert curve(tmp_path, "train/gradient_norm") == [(10, 1.0), (20, 1.0)], "nor a curve that has not come again"
    board_in(tmp_path, 0).write(5, {"loss": 3.0})
    assert curve(tmp_path, "train/loss") == [(5, 3.0)], "a run that starts again from 0 drops everything"


def test_the_reader_behind_tensorboards_own_pages_drops_it_too(tmp_path):
    for first_step, steps in ((0, (10, 20, 30)), (20, (30,))):
        board = board_in(tmp_path, first_step)
        for step in steps:
            board.write(step, {"loss": 1.0, "gradient_norm": 1.0} if first_step == 0 else {"loss": 1.0})
            board.write_samples(step, [Sample("a", "b")])
    found = plugin_event_accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    steps = {tag: [point.step for point in found.Tensors(tag)] for tag in found.Tags()["tensors"]}
    assert steps == {"train/loss": [10, 20, 30], "train/gradient_norm": [10, 20], "samples/0": [10, 20, 30]}


def test_later_processes_are_read_later_whatever_the_clock_and_the_machine(tmp_path, monkeypatch):
    for number, host in enumerate("zya"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        monkeypatch.setattr("time.time", lambda number=number: 1e9 - number)
        board_in(tmp_path, 0).write(1 + number, {"loss": 0.0})
    assert curve(tmp_path, "train/loss") == [(3, 0.0)]
    assert [file.name[-1] for file in sorted(tmp_path.iterdir())] == ["z", "y", "a"]


def test_samples_are_texts_shown_as_they_are(tmp_path):
    board_in(tmp_path, 0).write_samples(4, [Sample("One *two*", " three"), Sample("", "x")])
    found = read(tmp_path)
    (text,) = found.Tensors("samples/0")
    assert text.tensor_proto.string_val == [b"```\nOne *two* three\n```"]
    assert found.SummaryMetadata("samples/1").plugin_data.plugin_name == "text"


def test_writing_does_not_need_the_tensorboard_package(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.setitem(sys.modules, name, None)
    board_in(tmp_path, 0).write(1, {"loss": 0.5})
    monkeypatch.undo()
    assert curve(tmp_path, "train/loss") == [(1, 0.5)]


def test_a_killed_and_resumed_run_has_every_point_of_metrics_jsonl_once(records_folder, tmp_path, monkeypatch):
    run = tiny_run(records_folder, tmp_path, TrackingConfig())
    train_until_killed(run, monkeypatch, 8)
    train_tiny(run)
    expected = [(line["step"], line["loss"]) for line in read_metrics(str(tmp_path)) if "loss" in line]
    assert [step for step, _ in expected] == [2, 4, 6, 8, 10]
    assert np.array(curve(tmp_path / "tensorboard", "train/loss")) == pytest.approx(np.array(expected))
    rates = [rate_of_update(run, step) for step in (2, 4, 6, 8, 10)]
    assert [rate for _, rate in curve(tmp_path / "tensorboard", "train/learning_rate")] == pytest.approx(rates)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    train_tiny(run)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2, "a finished run that is asked again writes none"


@pytest.fixture
def in_cloud(bucket, tmp_path):
    """The folder of events on Cloud Storage, and what TensorBoard finds there when its files are downloaded."""
    folder = f"{bucket}/{tmp_path.name}/tensorboard"

    def download():
        copies = tmp_path / "copies"
        copies.mkdir(exist_ok=True)
        for file in storage.of(folder).list_files(folder):
            (copies / storage.base_name(file)).write_bytes(storage.read_bytes(file))
        return copies

    return folder, download


def test_on_cloud_storage_a_killed_and_a_resumed_run_are_files_as_on_a_disk(in_cloud, publisher):
    folder, download = in_cloud
    for first_step, steps in ((0, (10, 20, 30, 40)), (20, (30,))):
        board = TensorBoard(folder, first_step, publisher)
        for step in steps:
            board.write(step, {"loss": float(first_step)})
            board.write_samples(step, [Sample("a", "b")])
        board.close()
        assert publisher.wait(Deadline(20), optional_too=True)
    assert curve(download(), "train/loss") == [(10, 0.0), (20, 0.0), (30, 20.0)]
    assert len(list(download().iterdir())) == 2


def test_on_cloud_storage_a_large_file_is_followed_by_another_and_every_point_is_there_once(
    in_cloud, publisher, monkeypatch
):
    """A file that grows for weeks would be uploaded again and again."""
    folder, download = in_cloud
    monkeypatch.setattr(tensorboard, "LARGEST_FILE_BYTES", 500)
    board = TensorBoard(folder, 0, publisher)
    for step in range(1, 51):
        board.write(step, {"loss": float(step)})
    board.close()
    assert publisher.wait(Deadline(20), optional_too=True)
    assert curve(download(), "train/loss") == [(step, float(step)) for step in range(1, 51)]
    sizes = [file.stat().st_size for file in download().iterdir()]
    assert len(sizes) > 3
    assert max(sizes) < 600


class Kept:
    """A publisher that keeps what it is told."""

    def __init__(self):
        self.told = []

    def publish(self, path, parts, rest_seconds=0.0, required=True):
        self.told.append((path, len(parts), rest_seconds, required))


def test_on_cloud_storage_points_rest_for_a_while_but_for_the_last_and_no_checkpoint_waits_for_them(in_cloud):
    folder, _ = in_cloud
    kept = Kept()
    board = TensorBoard(folder, 0, kept)
    board.write(1, {"loss": 1.0})
    board.close()
    assert [(rest_seconds, required) for _, _, rest_seconds, required in kept.told] == [
        (30.0, False),
        (30.0, False),
        (0.0, False),
    ]
    assert [n_records for _, n_records, *_ in kept.told] == [2, 3, 3]


def test_a_record_that_does_not_fit_on_the_disk_leaves_those_before_and_after_it_readable(tmp_path):
    board = board_in(tmp_path, 0)
    board.write(1, {"loss": 1.0})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    (file,) = tmp_path.iterdir()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, limits[1]))
        with pytest.raises(OSError, match="No space left|File too large"):
            board.write(2, {"loss": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    board.write(3, {"loss": 3.0})
    board.close()
    assert curve(tmp_path, "train/loss") == [(1, 1.0), (3, 3.0)]


def test_a_file_on_a_disk_stays_the_same_while_it_grows(tmp_path):
    """A running TensorBoard holds it open."""
    board = board_in(tmp_path, 0)
    (file,) = tmp_path.iterdir()
    before = file.stat()
    board.write(1, {"loss": 1.0})
    assert file.stat().st_ino == before.st_ino
    assert file.stat().st_size > before.st_size
