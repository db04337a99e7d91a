"""The windows of lm-evaluation-harness."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algpt2.evaluation.windows import rolling_windows


def test_the_last_window_is_full_and_scores_only_what_is_new():
    first, last = rolling_windows(np.arange(100, 111), 6, 6)
    assert first.inputs.tolist() == [100, 101, 102, 103, 104, 105]
    assert first.scored.tolist() == [1] * 6
    assert last.inputs.tolist() == [104, 105, 106, 107, 108, 109]
    assert last.targets.tolist() == [105, 106, 107, 108, 109, 110]
    assert last.scored.tolist() == [0, 0, 1, 1, 1, 1]


def test_a_text_shorter_than_a_window_is_one_that_is_filled_up():
    (only,) = rolling_windows(np.arange(100, 103), 6, 6)
    assert (only.inputs.tolist(), only.scored.tolist()) == ([100, 101, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0])


def test_their_distance_is_the_window_itself():
    with pytest.raises(ValueError, match="seq_len = 6 apart, received a stride of 5"):
        list(rolling_windows(np.arange(10), 6, 5))


@given(n_ids=st.integers(0, 60), seq_len=st.integers(1, 20))
def test_they_are_those_of_lm_evaluation_harness(n_ids, seq_len):
    theirs = pytest.importorskip("lm_eval.utils", reason="lm-eval is not installed")
    ids = list(range(100, 100 + n_ids))
    expected = theirs.get_rolling_token_windows(ids[1:], ids[0], seq_len, 1) if ids else []
    expected = [theirs.make_disjoint_window(pair) for pair in expected]
    found = list(rolling_windows(np.array(ids), seq_len, seq_len))
    assert len(found) == len(expected)
    for window, (context, continuation) in zip(found, expected, strict=True):
        whole = [*context, *continuation]
        assert window.inputs[: len(whole) - 1].tolist() == whole[:-1]
        assert window.targets[window.scored == 1].tolist() == continuation


@given(n_ids=st.integers(0, 60), seq_len=st.integers(1, 20))
def test_each_id_but_the_first_is_scored_once_after_its_own(n_ids, seq_len):
    ids = np.arange(100, 100 + n_ids)
    found = list(rolling_windows(ids, seq_len, seq_len))
    assert [int(target) for window in found for target in window.targets[window.scored == 1]] == ids[1:].tolist()
    assert all((window.targets == window.inputs + 1)[window.scored == 1].all() for window in found)
