import time

import pytest

from algpt2.tracking import throughput
from algpt2.tracking.throughput import ThroughputMeter, format_seconds


def test_throughput_leaves_out_the_call_that_compiles(monkeypatch):
    times = iter([0.0, 100.0, 110.0, 114.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(times))
    meter = ThroughputMeter(tokens_per_step=100)
    assert meter.tokens_per_second is None
    with meter.measuring(5):
        pass
    assert meter.tokens_per_second is None
    with meter.measuring(2):
        pass
    assert meter.tokens_per_second == pytest.approx(200 / 4)


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (90, "1.5 min"), (5400, "1.5 h")])
def test_durations_read_well(seconds, text):
    assert format_seconds(seconds) == text


def test_the_fraction_of_time_in_steps_leaves_out_the_first_call_and_counts_pauses_against_it():
    meter = ThroughputMeter(tokens_per_step=10)
    for _ in range(2):
        with meter.measuring(1):
            assert meter.step_fraction is None
            time.sleep(0.1)
    time.sleep(0.1)
    assert 0.3 < meter.step_fraction < 0.6
