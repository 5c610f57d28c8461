"""From the outcome of a run to what becomes of the task, every case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.rules.retry import Jitter, Retry
from stoker.rules.settle import (
    UNKNOWN_TASK_DELAY,
    UNKNOWN_TASK_GRACE,
    Bury,
    Cancel,
    Expired,
    Failure,
    Fatal,
    Interrupted,
    Outcome,
    Raised,
    Release,
    RetryAsked,
    Returned,
    Snooze,
    Snoozed,
    Succeed,
    Transition,
    Unknown,
    settle,
)
from stoker.rules.settle import Retry as Again

FAILURE = Failure("ValueError", "no")
THREE = Retry(max_retries=3, initial_delay=5, multiplier=2, jitter=Jitter.NONE)
NEVER = Retry(max_retries=0)


def half() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("outcome", "policy", "failures", "unknown_for", "transition"),
    [
        pytest.param(Returned(b"1"), THREE, 0, 0, Succeed(b"1"), id="what returned has succeeded"),
        pytest.param(Returned(b"1"), THREE, 99, 1e9, Succeed(b"1"), id="success forgives every earlier failure"),
        pytest.param(Raised(FAILURE), THREE, 0, 0, Again(5, FAILURE), id="the first failure waits the initial delay"),
        pytest.param(Raised(FAILURE), THREE, 1, 0, Again(10, FAILURE), id="the second failure waits longer"),
        pytest.param(Raised(FAILURE), THREE, 2, 0, Again(20, FAILURE), id="the third failure is the last that is retried"),
        pytest.param(Raised(FAILURE), THREE, 3, 0, Bury(FAILURE), id="after three retries it is buried"),
        pytest.param(Raised(FAILURE), NEVER, 0, 0, Bury(FAILURE), id="no retries means buried at once"),
        pytest.param(Fatal(FAILURE), THREE, 0, 0, Bury(FAILURE), id="the hopeless is buried at once"),
        pytest.param(
            Unknown(FAILURE),
            THREE,
            0,
            0,
            Snooze(UNKNOWN_TASK_DELAY, "unknown to this worker"),
            id="an unknown task waits for another worker",
        ),
        pytest.param(
            Unknown(FAILURE),
            NEVER,
            9,
            0,
            Snooze(UNKNOWN_TASK_DELAY, "unknown to this worker"),
            id="unknown is not failed, whatever the policy",
        ),
        pytest.param(
            Unknown(FAILURE),
            THREE,
            0,
            UNKNOWN_TASK_GRACE - 1,
            Snooze(UNKNOWN_TASK_DELAY, "unknown to this worker"),
            id="unknown nearly for the grace",
        ),
        pytest.param(Unknown(FAILURE), THREE, 0, UNKNOWN_TASK_GRACE, Bury(FAILURE), id="unknown for the whole grace: buried"),
        pytest.param(RetryAsked(FAILURE), THREE, 1, 0, Again(10, FAILURE), id="who asks for a retry waits as for a failure"),
        pytest.param(RetryAsked(FAILURE, 0.5), THREE, 1, 0, Again(0.5, FAILURE), id="or for as long as it said"),
        pytest.param(RetryAsked(FAILURE, 0.5), THREE, 3, 0, Bury(FAILURE), id="asking gives no more retries than the policy"),
        pytest.param(RetryAsked(FAILURE, None, 9), THREE, 3, 0, Again(40, FAILURE), id="unless it says how many there may be"),
        pytest.param(RetryAsked(FAILURE, None, 0), THREE, 0, 0, Bury(FAILURE), id="none is a number too"),
        pytest.param(
            Snoozed(60, "not yet"), NEVER, 9, 1e9, Snooze(60, "not yet"), id="a snooze is never charged, and never the last"
        ),
        pytest.param(Expired(), THREE, 0, 0, Cancel("expired"), id="what expired is cancelled, not dead"),
        pytest.param(Interrupted(), THREE, 0, 0, Release(), id="what was interrupted goes back"),
        pytest.param(Interrupted(), NEVER, 9, 1e9, Release(), id="what was interrupted is never charged"),
    ],
)
def test_settle(outcome: Outcome, policy: Retry, failures: int, unknown_for: float, transition: Transition) -> None:
    assert settle(outcome, policy, failures=failures, unknown_for=unknown_for, random=half) == transition


def test_jitter_spreads_a_retry() -> None:
    again = settle(Raised(FAILURE), Retry(initial_delay=8, jitter=Jitter.FULL), failures=0, random=half)
    assert again == Again(4, FAILURE)


@given(failures=st.integers(0, 2000), retries=st.integers(0, 1000), unknown_for=st.floats(0, 1e9))
def test_a_failing_task_comes_to_an_end(failures: int, retries: int, unknown_for: float) -> None:
    end = settle(Raised(FAILURE), Retry(max_retries=retries), failures=failures, unknown_for=unknown_for, random=half)
    assert isinstance(end, Bury if failures >= retries else Again)
