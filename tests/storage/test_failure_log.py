"""What keeps failing is told in few lines."""

import pytest

from algpt2.storage.failure_log import FailureLog, reason_of


@pytest.fixture
def told(caplog):
    """Returns the lines so far."""
    caplog.set_level("INFO")
    return lambda: [record.getMessage() for record in caplog.records]


def test_failures_are_told_when_they_begin_each_minute_and_when_they_are_over(told):
    now = [0.0]
    log = FailureLog("written", clock=lambda: now[0])
    log.succeeded("a")
    for now[0] in (10.0, 20.0, 69.0, 70.0, 100.0):
        log.failed("a", "cut")
    log.succeeded("a")
    log.succeeded("a")
    assert told() == [
        "a cannot be written (cut); trying again",
        "a cannot be written, 60 s after the first failure (cut); trying again",
        "a was written again after 90 s of failures",
    ]


def test_what_fails_every_other_time_is_warned_of_once_a_minute_too(told):
    now = [0.0]
    log = FailureLog("written", clock=lambda: now[0])
    for now[0] in range(120):
        log.failed("a", "cut")
        log.succeeded("a")
    assert ["cannot" in line for line in told()] == [True, False, True, False]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError("a\n  b"), "a b"), (ValueError(), "ValueError"), (OSError("x" * 1000), "x" * 300)],
)
def test_a_reason_is_one_line_that_is_not_too_long(error, reason):
    assert reason_of(error) == reason
