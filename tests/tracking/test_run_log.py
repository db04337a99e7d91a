"""What lines of metrics hold beside the loss."""

import numpy as np
import pytest
from tiny_run import tiny_run, train_tiny

from algpt2.model.sizes import training_flops_per_token
from algpt2.tracking.metrics import StepResults, read_metrics
from algpt2.tracking.run_log import RunLog
from algpt2.training import run_checkpoints
from algpt2.training.run_checkpoints import SaveTimes


@pytest.fixture
def run(records_folder, tmp_path):
    return tiny_run(records_folder, tmp_path)


def results(losses, norms):
    return StepResults(np.float32(losses), np.float32(norms), np.zeros(len(losses), bool), input_seconds=0.125)


def written(run, **device):
    """Returns the metrics of a run of 640 tokens in 2 seconds."""
    log = RunLog(run, 0, True, **device)
    with log:
        log.meter.tokens, log.meter.seconds = 640, 2.0
        log.add_steps(results([3, 5], [1, 2]), seconds=0.5)
        log.write_steps(2, 1e-3, {"checkpoint_wait_seconds": 0.5}, skipped_steps=0)
    return read_metrics(run.model_dir)[-1]


def test_a_line_holds_loss_norm_rate_and_speed(run):
    assert written(run) == {
        "step": 2,
        "tokens": 128,
        "loss": 4.0,
        "gradient_norm": 2.0,
        "learning_rate": 1e-3,
        "tokens_per_second": 320.0,
        "seconds_per_step": 0.2,
        "input_wait_fraction": 0.25,
        "skipped_steps": 0,
        "checkpoint_wait_seconds": 0.5,
    }


def test_the_utilisation_is_of_all_replicas_and_told_only_where_the_device_is_known(run):
    flops = training_flops_per_token(run.model_config)
    assert written(run, n_replicas=4, device_kind="v3")["mfu"] == pytest.approx(320 * flops / (2 * 123e12))
    assert "mfu" not in written(run, n_replicas=4)


def test_only_the_chief_writes(run, tmp_path):
    log = RunLog(run, 0, False)
    with log:
        log.add_steps(results([3], [1]), seconds=0.5)
        log.write_steps(1, 1e-3, {}, skipped_steps=0)
        log.write_samples(1, [])
    assert list(tmp_path.iterdir()) == []


def test_sinks_are_closed_whatever_ends_the_run(run, monkeypatch):
    closed = []

    class Closing:
        def close(self):
            closed.append(True)

    monkeypatch.setattr("algpt2.tracking.run_log.open_sinks", lambda run, first_step: [Closing(), Closing()])
    with pytest.raises(KeyboardInterrupt), RunLog(run, 0, True):
        raise KeyboardInterrupt
    assert closed == [True, True]


def test_times_of_saving_are_told_once_and_summed(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 10.5])
    monkeypatch.setattr(run_checkpoints.time, "monotonic", lambda: next(clock))
    times = SaveTimes()
    with times.holding_up():
        times.add_write(7.0)
    assert times.since_last_call() == {"checkpoint_seconds": 7.0, "checkpoint_wait_seconds": 2.0}
    assert times.since_last_call() == {"checkpoint_wait_seconds": 0.0}
    with pytest.raises(OSError, match="full"), times.holding_up():
        raise OSError("full")
    assert times.totals() == {"checkpoint_seconds": 7.0, "checkpoint_wait_seconds": 2.5}


def test_a_runs_metrics_and_result_tell_what_saving_took(run):
    result = train_tiny(run)
    lines = [line for line in read_metrics(run.model_dir) if "loss" in line]
    assert all(line["failed_checkpoints"] == 0 and line["checkpoint_wait_seconds"] >= 0 for line in lines)
    assert lines[0]["checkpoint_wait_seconds"] == 0, "nothing is saved before step 3"
    assert "checkpoint_seconds" not in lines[0]
    told = sum(line["checkpoint_wait_seconds"] for line in lines)
    assert 0 < told < result["checkpoint_wait_seconds"], "the last checkpoint comes after the last line"
    assert result["checkpoint_seconds"] > 0
    assert any("checkpoint_seconds" in line for line in lines)
