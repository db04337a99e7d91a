"""Learning-rate schedules against formulas written anew in NumPy float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from algpt2.schedules import WarmupDecay
from algpt2.train_config import DECAYS

PEAK, FRACTION = 6e-4, 0.1


def rates(decay, warmup_steps, total_steps, fraction=FRACTION):
    """The learning rates of updates 1 to total_steps."""
    schedule = WarmupDecay(PEAK, warmup_steps, total_steps, decay, fraction)
    return schedule(np.arange(total_steps)).numpy()


def expected_rate(update, decay, warmup_steps, total_steps, fraction):
    if update <= warmup_steps:
        return PEAK * update / warmup_steps
    floor = PEAK * fraction
    done = (update - warmup_steps) / (total_steps - warmup_steps)
    if decay == "linear":
        return PEAK + done * (floor - PEAK)
    if decay == "cosine":
        return floor + (PEAK - floor) * np.cos(np.pi * done / 2) ** 2
    return PEAK


@settings(max_examples=40, deadline=None)
@given(decay=st.sampled_from(DECAYS), total_steps=st.integers(1, 300), fraction=st.sampled_from([0.0, 0.1, 1.0]),
       warmup_fraction=st.floats(0, 1))  # fmt: skip
def test_every_rate_is_the_formulas(decay, total_steps, fraction, warmup_fraction):
    warmup_steps = round(warmup_fraction * total_steps)
    found = rates(decay, warmup_steps, total_steps, fraction)
    updates = range(1, total_steps + 1)
    expected = [expected_rate(update, decay, warmup_steps, total_steps, fraction) for update in updates]
    assert np.abs(found - expected).max() <= 1e-6 * PEAK


@pytest.mark.parametrize("decay", DECAYS)
def test_the_peak_is_reached_by_the_last_update_of_the_warm_up(decay):
    found = rates(decay, 10, 100)
    assert found[9] == pytest.approx(PEAK, rel=1e-7)
    assert found.max() == found[9]
    assert found[0] == pytest.approx(PEAK / 10, rel=1e-6), "the first update has the first fraction of it, not 0"


@pytest.mark.parametrize(("decay", "last"), [("cosine", 0.1), ("linear", 0.1), ("constant", 1.0)])
def test_the_last_update_has_the_final_rate_and_later_ones_keep_it(decay, last):
    schedule = WarmupDecay(PEAK, 10, 100, decay, FRACTION)
    assert schedule(np.array([99, 100, 500])).numpy() == pytest.approx([PEAK * last] * 3, rel=1e-5)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_curve_is_continuous_where_the_warm_up_ends(decay):
    """The original's fell by 11% there. No step may be larger than the steepest slope of the side it lies on."""
    warmup_steps, total_steps = 20, 220
    found = rates(decay, warmup_steps, total_steps).astype(np.float64)
    steps = np.abs(np.diff(found))
    steepest = {"cosine": np.pi / 2, "linear": 1, "constant": 0}[decay] * PEAK * (1 - FRACTION) / 200
    rounding = 1e-6 * PEAK
    assert steps[: warmup_steps - 1] == pytest.approx(PEAK / warmup_steps, abs=rounding)
    assert steps[warmup_steps - 1 :].max() <= steepest + rounding
    if decay == "cosine":
        assert steps[warmup_steps - 1] <= steepest / 50, "a cosine starts out flat"


@pytest.mark.parametrize("decay", DECAYS)
def test_without_a_warm_up_the_decay_begins_at_once(decay):
    found = rates(decay, 0, 100)
    assert 0.98 * PEAK < found[0] <= PEAK * (1 + 1e-6)
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("decay", DECAYS)
def test_a_warm_up_as_long_as_the_run_ends_at_the_peak(decay):
    assert rates(decay, 50, 50) == pytest.approx(PEAK * np.arange(1, 51) / 50, rel=1e-6)


def test_a_run_of_one_step_has_a_rate_above_0():
    assert rates("cosine", 1, 1) == pytest.approx([PEAK])
    assert rates("cosine", 0, 1) == pytest.approx([PEAK * FRACTION])


def test_it_works_inside_a_graph_on_an_optimizers_integer_step():
    schedule = WarmupDecay(PEAK, 10, 100, "cosine", FRACTION)
    optimizer = keras.optimizers.SGD(schedule)
    optimizer.build([])
    optimizer.iterations.assign(54)
    rate = tf.function(lambda: schedule(optimizer.iterations), jit_compile=True)()
    assert rate.dtype == tf.float32
    assert float(rate) == pytest.approx(PEAK * 0.55, rel=1e-5), "half-way between peak and a tenth of it"


def test_a_schedule_comes_back_from_its_keras_config():
    schedule = WarmupDecay(PEAK, 10, 100, "linear", FRACTION)
    again = WarmupDecay.from_config(schedule.get_config())
    assert again.get_config() == schedule.get_config()
    assert float(again(40)) == float(schedule(40))


def test_an_unknown_decay_is_refused():
    with pytest.raises(ValueError, match="one of .*received 'step'"):
        WarmupDecay(PEAK, 10, 100, "step", FRACTION)
