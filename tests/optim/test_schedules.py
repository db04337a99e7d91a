"""Learning-rate schedules against formulas written anew in NumPy float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from algpt2.config.training import DECAYS, TrainConfig
from algpt2.devices import wheels
from algpt2.optim.create import create_schedule
from algpt2.optim.schedules import DECAYS_IN_UPDATES, TokensCosine, WarmupDecay

FROM_THE_WARM_UP = tuple(decay for decay in DECAYS_IN_UPDATES if decay != "wsd")
COOLDOWNS = {"linear": lambda x: 1 - x, "1-sqrt": lambda x: 1 - x**0.5}
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
@given(decay=st.sampled_from(FROM_THE_WARM_UP), total_steps=st.integers(1, 300), warmup_fraction=st.floats(0, 1),
       fraction=st.sampled_from([0.0, 0.1, 1.0]))  # fmt: skip
def test_every_rate_is_the_formulas(decay, total_steps, fraction, warmup_fraction):
    warmup_steps = round(warmup_fraction * total_steps)
    found = rates(decay, warmup_steps, total_steps, fraction)
    updates = range(1, total_steps + 1)
    expected = [expected_rate(update, decay, warmup_steps, total_steps, fraction) for update in updates]
    assert np.abs(found - expected).max() <= 1e-6 * PEAK


@pytest.mark.parametrize("decay", FROM_THE_WARM_UP)
def test_the_peak_is_reached_by_the_last_update_of_the_warm_up(decay):
    found = rates(decay, 10, 100)
    assert found[9] == pytest.approx(PEAK, rel=1e-7)
    assert found.max() == found[9]
    assert found[0] == pytest.approx(PEAK / 10, rel=1e-6), "the first update has the first fraction of it, not 0"


@pytest.mark.parametrize(("decay", "last"), [("cosine", 0.1), ("linear", 0.1), ("constant", 1.0)])
def test_the_last_update_has_the_final_rate_and_later_ones_keep_it(decay, last):
    schedule = WarmupDecay(PEAK, 10, 100, decay, FRACTION)
    assert schedule(np.array([99, 100, 500])).numpy() == pytest.approx([PEAK * last] * 3, rel=1e-5)


@pytest.mark.parametrize("decay", FROM_THE_WARM_UP)
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


@pytest.mark.parametrize("decay", FROM_THE_WARM_UP)
def test_without_a_warm_up_the_decay_begins_at_once(decay):
    found = rates(decay, 0, 100)
    assert 0.98 * PEAK < found[0] <= PEAK * (1 + 1e-6)
    assert (np.diff(found) <= 0).all()


@pytest.mark.parametrize("decay", FROM_THE_WARM_UP)
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


def wsd_rates(warmup_steps, total_steps, cooldown_steps, shape, fraction=FRACTION):
    schedule = WarmupDecay(PEAK, warmup_steps, total_steps, "wsd", fraction, cooldown_steps, shape)
    return schedule(np.arange(total_steps)).numpy().astype(np.float64)


@pytest.mark.parametrize("shape", COOLDOWNS)
@pytest.mark.parametrize("fraction", [0.0, 0.1])
@pytest.mark.parametrize(("warmup_steps", "cooldown_steps"), [(0, 200), (30, 40), (160, 40), (12.5, 1)])
def test_wsd_stays_at_the_peak_until_the_cooldown_and_then_has_its_shape(shape, fraction, warmup_steps, cooldown_steps):
    found = wsd_rates(warmup_steps, 200, cooldown_steps, shape, fraction)
    start = 200 - cooldown_steps
    for update in range(1, 201):
        part = update / warmup_steps if update < warmup_steps else 1.0
        if update > start:
            part = fraction + (1 - fraction) * COOLDOWNS[shape]((update - start) / cooldown_steps)
        assert found[update - 1] == pytest.approx(PEAK * part, abs=1e-6 * PEAK)
    assert found[-1] == pytest.approx(PEAK * fraction, abs=1e-6 * PEAK)


@pytest.mark.parametrize("shape", COOLDOWNS)
def test_wsd_is_continuous_where_the_cooldown_begins(shape):
    """The steepest that either shape falls in one of 2,000 updates: 1 - sqrt at its start, by sqrt(1/2000)."""
    found = wsd_rates(100, 10_000, 2_000, shape)
    assert np.abs(np.diff(found[99:])).max() <= PEAK * (1 - FRACTION) * 2000**-0.5 * (1 + 1e-3)
    assert (np.diff(found[99:]) <= 0).all()


def decoder_llm_rate(tokens, peak=3e-4, x0=1.125e9, x1=30e9):
    """The published formula, tokens seen before the update -> learning rate."""
    if tokens < x0:
        return peak * (0.1 + 0.9 * tokens / x0)
    if tokens < x1:
        return peak * (0.55 + 0.45 * np.cos(np.pi * (tokens - x0) / (x1 - x0)))
    return 0.1 * peak


def tokens_schedule(tokens_per_sequence, **fields):
    config = TrainConfig(**{"total_steps": 10**6, "batch_size": 504, "learning_rate": 3e-4, **fields})
    return create_schedule(config, config.batch_size * tokens_per_sequence)


def test_the_cosine_over_tokens_has_the_published_value_after_22_000_updates():
    """The next update's is 2.24669e-4, which rounds to another value: tokens count before the update."""
    schedule = tokens_schedule(1024, decay="tokens_cosine", warmup_tokens=1.125e9, decay_tokens=30e9)
    assert float(schedule(22_000)) == pytest.approx(2.246754e-4, abs=2e-10)
    assert f"{float(schedule(22_000)):.4e}" == "2.2468e-04"
    assert f"{float(schedule(22_001)):.4e}" == "2.2467e-04"


def test_the_cosine_over_tokens_is_the_published_formula_all_along():
    schedule = tokens_schedule(1024, decay="tokens_cosine", warmup_tokens=1.125e9, decay_tokens=30e9)
    steps = np.unique(np.concatenate([np.arange(0, 70_000, 97), np.arange(2170, 2190), np.arange(58_120, 58_140)]))
    expected = [decoder_llm_rate(int(step) * 516_096) for step in steps]
    assert np.abs(schedule(steps).numpy() - expected).max() <= 1e-6 * 3e-4
    assert float(schedule(0)) == pytest.approx(3e-5, rel=1e-6), "a tenth of the peak before any token"


def test_the_cosine_over_tokens_is_continuous_at_both_seams():
    schedule = tokens_schedule(1024, decay="tokens_cosine", warmup_tokens=1.125e9, decay_tokens=30e9)
    found = schedule(np.arange(60_000)).numpy().astype(np.float64)
    assert np.abs(np.diff(found)).max() <= 0.9 * 3e-4 * 516_096 / 1.125e9 * (1 + 1e-3), "the warm-up is the steepest"
    assert found.max() == pytest.approx(3e-4, rel=1e-3)


@pytest.mark.parametrize("warmup", [{}, {"warmup_steps": 2000}])
def test_the_cosine_over_tokens_may_warm_up_for_steps_or_not_at_all(warmup):
    schedule = tokens_schedule(1024, decay="tokens_cosine", decay_tokens=30e9, **warmup)
    x0 = warmup.get("warmup_steps", 0) * 516_096
    for step in (0, 1999, 2000, 30_000):
        assert float(schedule(step)) == pytest.approx(decoder_llm_rate(step * 516_096, x0=x0), rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 512])
def test_nothing_is_lost_in_runs_of_3e11_tokens(batch_size):
    """At one sequence a step there are 2.9e8 steps, which float32 cannot count."""
    steps_of_3e11 = round(3e11 / (1024 * batch_size))
    fields = {"batch_size": batch_size, "total_steps": steps_of_3e11}
    cosine = tokens_schedule(1024, decay="tokens_cosine", warmup_tokens=299e9, decay_tokens=300e9, **fields)
    wsd = tokens_schedule(1024, decay="wsd", cooldown_fraction=1 / 300, **fields)
    cooldown = round(steps_of_3e11 / 300)
    ends = np.linspace(0.9965, 0.9999, 50) * steps_of_3e11
    for step in map(int, ends):
        expected = decoder_llm_rate(step * 1024 * batch_size, x0=299e9, x1=300e9)
        assert float(cosine(step)) == pytest.approx(expected, rel=1e-6)
        done = max(0, step + 1 - (steps_of_3e11 - cooldown)) / cooldown
        assert float(wsd(step)) == pytest.approx(3e-4 * (1 - 0.9 * done), rel=1e-6)


def test_a_warm_up_in_tokens_is_one_in_steps_where_it_divides_and_in_between_elsewhere():
    by_steps = tokens_schedule(16, total_steps=100, batch_size=2, warmup_steps=20)
    by_tokens = tokens_schedule(16, total_steps=100, batch_size=2, warmup_tokens=640.0)
    np.testing.assert_array_equal(by_steps(np.arange(100)), by_tokens(np.arange(100)))
    between = tokens_schedule(16, total_steps=100, batch_size=2, warmup_tokens=648.0, decay="linear")
    assert float(between(9)) == pytest.approx(3e-4 * 320 / 648, rel=1e-6)
    assert float(between(20)) == pytest.approx(3e-4 * (1 - 0.9 * 0.75 / 79.75), rel=1e-6)
    assert float(between(99)) == pytest.approx(3e-5, rel=1e-6)


@pytest.mark.parametrize("decay", DECAYS)
def test_every_decay_makes_a_schedule_that_works_in_a_compiled_graph_and_comes_back_from_keras(decay):
    decay_tokens = 900.0 if decay == "tokens_cosine" else None
    schedule = tokens_schedule(
        16, total_steps=50, batch_size=2, decay=decay, warmup_steps=10, decay_tokens=decay_tokens
    )
    again = type(schedule).from_config(schedule.get_config())
    rate = tf.function(again, jit_compile=wheels.has_host_compiler())(tf.constant(40))
    assert rate.dtype == tf.float32
    assert float(rate) == pytest.approx(float(schedule(40)), rel=1e-6)
    assert again.get_config() == schedule.get_config()


def test_an_unknown_cooldown_shape_is_refused():
    with pytest.raises(ValueError, match="cooldown_shape must be one of .*received 'sqrt'"):
        WarmupDecay(PEAK, 10, 100, "wsd", FRACTION, 20, "sqrt")


def test_a_cosine_over_tokens_comes_back_from_its_keras_config():
    schedule = TokensCosine(PEAK, 2179.8, 58_128.7, FRACTION)
    assert float(TokensCosine.from_config(schedule.get_config())(22_000)) == float(schedule(22_000))
