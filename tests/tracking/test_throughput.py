import pytest

from algpt2.tracking.throughput import ThroughputMeter, format_seconds


def test_throughput_leaves_out_the_call_that_compiles():
    times = iter([0.0, 100.0, 110.0, 114.0])
    meter = ThroughputMeter(tokens_per_step=100, clock=lambda: next(times))
    assert meter.tokens_per_second is None
    with meter.measuring(5):
        pass
    assert meter.tokens_per_second is None
    with meter.measuring(2):
        pass
    assert meter.tokens_per_second == pytest.approx(200 / 4)


def test_the_utilisation_is_told_only_where_the_peak_is_known():
    assert "mfu" not in measured(ThroughputMeter(100)).metrics()
    assert measured(ThroughputMeter(100, peak_tokens_per_second=200.0)).metrics()["mfu"] == pytest.approx(0.25)


def test_the_pace_says_speed_utilisation_and_time_left():
    assert ThroughputMeter(100).pace(9) == "- tokens/s  - left"
    assert measured(ThroughputMeter(100)).pace(9) == "50 tokens/s  18 s left"
    assert measured(ThroughputMeter(100, peak_tokens_per_second=200.0)).pace(9) == "50 tokens/s  MFU 25.0%  18 s left"


def measured(meter):
    """A meter that has counted 100 tokens in 2 seconds."""
    meter.tokens, meter.seconds = 100, 2.0
    return meter


@pytest.mark.parametrize(("seconds", "text"), [(5, "5 s"), (90, "1.5 min"), (5400, "1.5 h")])
def test_durations_read_well(seconds, text):
    assert format_seconds(seconds) == text


def test_the_fraction_of_time_in_steps_leaves_out_the_first_call_and_counts_pauses_against_it():
    times = iter([0.0, 100.0, 103.0, 104.0, 105.0])
    meter = ThroughputMeter(tokens_per_step=10, clock=lambda: next(times))
    for _ in range(2):
        with meter.measuring(1):
            assert meter.step_fraction is None
    assert meter.step_fraction == pytest.approx(1 / 5), "one of the five seconds since 100"
