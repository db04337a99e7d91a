import json

import numpy as np
import pytest

from algpt2.config.training import TrainConfig
from algpt2.training.spikes import SkipState, is_spike, slide

WINDOW = np.array([[3.0, 3.2, 2.8, 3.0], [1.0, 1.0, 1.2, 0.8]], np.float32)
LOSS_LIMIT = 3.0 + 4 * np.std(WINDOW[0])
NORM_LIMIT = 1.0 + 4 * np.std(WINDOW[1])


@pytest.mark.parametrize(
    ("loss", "norm", "expected"),
    [
        (3.0, 1.0, False),
        (0.1, 0.1, False),
        (LOSS_LIMIT - 1e-3, NORM_LIMIT - 1e-3, False),
        (LOSS_LIMIT + 1e-3, 1.0, True),
        (3.0, NORM_LIMIT + 1e-3, True),
        (np.nan, 1.0, True),
        (3.0, np.inf, True),
        (-np.inf, 1.0, True),
    ],
)
def test_a_step_is_a_spike_when_its_loss_or_norm_is_not_finite_or_above_the_limit(loss, norm, expected):
    assert bool(is_spike(WINDOW, np.float32(loss), np.float32(norm), 4.0)) is expected


def test_until_the_window_is_full_only_what_is_not_finite_is_a_spike():
    window = WINDOW.copy()
    window[:, 0] = np.nan
    assert not bool(is_spike(window, np.float32(1e9), np.float32(1e9), 4.0))
    assert bool(is_spike(window, np.float32(np.nan), np.float32(1.0), 4.0))


def test_the_window_takes_in_the_steps_that_were_not_skipped():
    slid = np.array(slide(WINDOW, np.float32(9), np.float32(8), False))
    np.testing.assert_array_equal(slid, np.concatenate([WINDOW[:, 1:], [[9], [8]]], axis=1))
    np.testing.assert_array_equal(slide(WINDOW, np.float32(np.nan), np.float32(8), True), WINDOW)


def test_skips_in_a_row_are_counted_across_graph_calls():
    state = SkipState(WINDOW)
    assert state.rows([False, True, True]) == [0, 0, 1, 2]
    later = state.after([False, True, True], WINDOW)
    assert later.rows([True, False, True]) == [2, 3, 0, 1]
    latest = later.after([True, False, True], WINDOW)
    assert (latest.skipped_steps, latest.skipped_in_a_row) == (4, 1)


def test_a_state_is_a_value_that_nothing_changes_afterwards():
    state = SkipState(WINDOW.copy(), 3, 1)
    state.after([True], np.zeros((2, 4), np.float32))
    assert (state.skipped_steps, state.skipped_in_a_row) == (3, 1)
    with pytest.raises(ValueError, match="read-only"):
        state.window[0, 0] = 0
    with pytest.raises(AttributeError):
        state.skipped_steps = 4


@pytest.mark.parametrize(("skip_spikes", "steps"), [(6.0, 7), (0.0, 0)])
def test_a_run_has_a_window_only_where_it_skips_spikes(skip_spikes, steps):
    config = TrainConfig(total_steps=1, skip_spikes=skip_spikes, spike_window_steps=7)
    state = SkipState.before_first_step(config)
    assert state.window.shape == (2, steps)
    assert np.isnan(state.window).all()


def test_the_state_survives_json_bit_for_bit():
    window = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    window[:, :2] = np.nan
    state = SkipState(window, 7, 2)
    again = SkipState.from_json(json.loads(json.dumps(state.to_json())), 5)
    np.testing.assert_array_equal(again.window, state.window)
    assert again.window.dtype == np.float32
    assert (again.skipped_steps, again.skipped_in_a_row) == (7, 2)


def test_another_window_length_keeps_the_newest_values():
    values = SkipState(WINDOW).to_json()
    np.testing.assert_array_equal(SkipState.from_json(values, 3).window, WINDOW[:, 1:])
    longer = SkipState.from_json(values, 6).window
    np.testing.assert_array_equal(longer[:, 2:], WINDOW)
    assert np.isnan(longer[:, :2]).all()
    assert SkipState.from_json(values, 0).window.shape == (2, 0), "a resumed run may skip no more"
