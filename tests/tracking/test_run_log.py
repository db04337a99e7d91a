"""What lines of metrics hold, and where they go."""

import numpy as np
import pytest
from tiny_run import tiny_run, train_tiny

from algpt2.storage.deadline import Deadline
from algpt2.tracking.metrics import EvaluationResult, Sample, StepResults, read_metrics
from algpt2.tracking.run_log import RunLog
from algpt2.tracking.sinks import FileSink
from algpt2.tracking.throughput import ThroughputMeter

TOKENS_PER_STEP = 64


def results(losses, norms, skipped=None):
    skipped = np.zeros(len(losses), bool) if skipped is None else np.array(skipped)
    return StepResults(np.float32(losses), np.float32(norms), skipped, input_seconds=0.125)


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self):
        self.written = []
        self.closed = False

    def write(self, step, metrics):
        self.written.append((step, dict(metrics)))

    def write_samples(self, step, samples):
        self.written.append((step, list(samples)))

    def close(self):
        self.closed = True


@pytest.fixture
def sink():
    return Kept()


@pytest.fixture
def log(sink):
    """The entered log of a run of 10 steps of which 640 tokens took 2 seconds."""
    meter = ThroughputMeter(TOKENS_PER_STEP, peak_tokens_per_second=1280.0)
    meter.tokens, meter.seconds = 640, 2.0
    with RunLog(0, 10, meter, lambda: [sink]) as log:
        yield log


def test_a_line_holds_loss_norm_rate_and_speed(log, sink):
    log.add_steps(results([3, 5], [1, 2]), seconds=0.5)
    log.write_steps(1e-3, 0, {"checkpoint_wait_seconds": 0.5})
    line = {
        "tokens": 128,
        "loss": 4.0,
        "gradient_norm": 2.0,
        "learning_rate": 1e-3,
        "tokens_per_second": 320.0,
        "seconds_per_step": 0.2,
        "mfu": 0.25,
        "input_wait_fraction": 0.25,
        "skipped_steps": 0,
        "checkpoint_wait_seconds": 0.5,
    }
    assert sink.written == [(2, line)]
    assert list(sink.written[0][1]) == list(line), "in this order"


def test_the_mean_begins_anew_at_each_line_and_leaves_out_skipped_steps(log, sink):
    for losses, skipped in (([3, 5], [False, False]), ([1, 9], [False, True])):
        log.add_steps(results(losses, [1, 1], skipped), seconds=0.5)
        log.write_steps(1e-3, sum(skipped), {})
    assert [(step, line["loss"], line["skipped_steps"]) for step, line in sink.written] == [(2, 4.0, 0), (4, 1.0, 1)]


def test_all_figures_of_one_step_are_one_line_and_its_samples_go_to_the_sinks(log, sink, caplog):
    samples = [Sample("a", "b")]
    found = {
        "sample": EvaluationResult(["'a' -> 'b'"], samples=samples),
        "validation": EvaluationResult(["loss 1"], metrics={"val_loss": 1.0}),
        "quiz": EvaluationResult(["accuracy 0.5"], ["may be luck"], {"quiz_accuracy": 0.5}),
    }
    log.add_steps(results([3], [1]), seconds=0.5)
    with caplog.at_level("INFO"):
        log.write_evaluations(found)
    assert sink.written == [(1, samples), (1, {"val_loss": 1.0, "quiz_accuracy": 0.5})]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "step 1  sample 'a' -> 'b'"),
        ("INFO", "step 1  validation loss 1"),
        ("INFO", "step 1  quiz accuracy 0.5"),
        ("WARNING", "step 1  quiz may be luck"),
    ]


def test_an_evaluation_without_figures_writes_no_line(log, sink):
    log.write_evaluations({"check": EvaluationResult(["passed"])})
    assert sink.written == []


def test_a_log_without_sinks_only_logs(caplog):
    with caplog.at_level("INFO"), RunLog(0, 10, ThroughputMeter(TOKENS_PER_STEP)) as log:
        log.add_steps(results([3], [1]), seconds=0.5)
        log.write_steps(1e-3, 0, {})
    assert "step 1/10  loss 3.0000" in caplog.text


def test_sinks_are_closed_whatever_ends_the_run():
    sinks = [Kept(), Kept()]
    with pytest.raises(KeyboardInterrupt), RunLog(0, 10, ThroughputMeter(TOKENS_PER_STEP), lambda: sinks):
        raise KeyboardInterrupt
    assert [sink.closed for sink in sinks] == [True, True]


def test_what_a_file_holds_is_what_the_log_wrote(tmp_path, publisher):
    with RunLog(0, 10, ThroughputMeter(TOKENS_PER_STEP), lambda: [FileSink(str(tmp_path), 0, publisher)]) as log:
        log.add_steps(results([3], [1]), seconds=0.5)
        log.write_steps(1e-3, 0, {})
    assert publisher.close(Deadline(20)) == {}
    (line,) = read_metrics(str(tmp_path))
    assert (line["step"], line["learning_rate"], line["tokens_per_second"]) == (1, 1e-3, None)


def test_a_runs_metrics_and_result_tell_what_saving_took(records_folder, tmp_path):
    run = tiny_run(records_folder, tmp_path)
    result = train_tiny(run)
    lines = [line for line in read_metrics(run.model_dir) if "loss" in line]
    assert all(line["failed_checkpoints"] == 0 and line["checkpoint_wait_seconds"] >= 0 for line in lines)
    assert lines[0]["checkpoint_wait_seconds"] == 0, "nothing is saved before step 3"
    assert "checkpoint_seconds" not in lines[0]
    told = sum(line["checkpoint_wait_seconds"] for line in lines)
    assert 0 < told < result["checkpoint_wait_seconds"], "the last checkpoint comes after the last line"
    assert result["checkpoint_seconds"] > 0
    assert any("checkpoint_seconds" in line for line in lines)


def test_the_share_of_time_that_input_took_begins_anew_at_each_line(log, sink):
    for seconds in (0.5, 0.25):
        log.add_steps(results([3], [1]), seconds)
        log.write_steps(1e-3, 0, {})
    assert [line["input_wait_fraction"] for _, line in sink.written] == [0.25, 0.5]


def test_a_resumed_run_counts_the_tokens_of_all_its_processes(sink):
    """The curves of a run are drawn over its tokens, so they would begin again at each resume."""
    with RunLog(7, 10, ThroughputMeter(TOKENS_PER_STEP), lambda: [sink]) as log:
        log.add_steps(results([3, 5], [1, 2]), seconds=0.5)
        log.write_steps(1e-3, 0, {})
    ((step, line),) = sink.written
    assert (step, line["tokens"]) == (9, 9 * TOKENS_PER_STEP)
