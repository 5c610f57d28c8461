"""From the outcome of a run to what becomes of the task, every case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.rules.retry import Jitter, Retry
from stoker.rules.settle import (
    UNKNOWN_TASK_DELAY,
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
    Unclaim,
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
    ("outcome", "policy", "failures", "transition"),
    [
        pytest.param(Returned(b"1"), THREE, 0, Succeed(b"1"), id="what returned has succeeded"),
        pytest.param(Returned(b"1"), THREE, 99, Succeed(b"1"), id="success forgives every earlier failure"),
        pytest.param(Raised(FAILURE), THREE, 0, Again(5, FAILURE), id="the first failure waits the initial delay"),
        pytest.param(Raised(FAILURE), THREE, 1, Again(10, FAILURE), id="the second failure waits longer"),
        pytest.param(Raised(FAILURE), THREE, 2, Again(20, FAILURE), id="the third failure is the last that is retried"),
        pytest.param(Raised(FAILURE), THREE, 3, Bury(FAILURE), id="after three retries it is buried"),
        pytest.param(Raised(FAILURE), NEVER, 0, Bury(FAILURE), id="no retries means buried at once"),
        pytest.param(Fatal(FAILURE), THREE, 0, Bury(FAILURE, fatal=True), id="the hopeless is buried at once"),
        pytest.param(
            Unknown("add", 2),
            THREE,
            0,
            Unclaim("add", 2, "t1", UNKNOWN_TASK_DELAY),
            id="unknown here: it waits",
        ),
        pytest.param(
            Unknown("add", 0),
            NEVER,
            9,
            Unclaim("add", 0, "t1", UNKNOWN_TASK_DELAY),
            id="unknown is not failed",
        ),
        pytest.param(RetryAsked(FAILURE), THREE, 1, Again(10, FAILURE), id="who asks for a retry waits as for a failure"),
        pytest.param(RetryAsked(FAILURE, 0.5), THREE, 1, Again(0.5, FAILURE), id="or for as long as it said"),
        pytest.param(RetryAsked(FAILURE, 0.5), THREE, 3, Bury(FAILURE), id="asking gives no more retries than the policy"),
        pytest.param(RetryAsked(FAILURE, None, 9), THREE, 3, Again(40, FAILURE), id="unless it says how many there may be"),
        pytest.param(RetryAsked(FAILURE, None, 0), THREE, 0, Bury(FAILURE), id="none is a number too"),
        pytest.param(Snoozed(60, "not yet"), NEVER, 9, Snooze(60, "not yet"), id="a snooze is never charged, and never the last"),
        pytest.param(Expired(), THREE, 0, Cancel("expired"), id="what expired is cancelled, not dead"),
        pytest.param(Interrupted(), THREE, 0, Release(), id="what was interrupted goes back"),
        pytest.param(Interrupted(), NEVER, 9, Release(), id="what was interrupted is never charged"),
    ],
)
def test_settle(outcome: Outcome, policy: Retry, failures: int, transition: Transition) -> None:
    assert settle(outcome, policy, failures=failures, random=half, template="t1") == transition


def test_jitter_spreads_a_retry() -> None:
    again = settle(Raised(FAILURE), Retry(initial_delay=8, jitter=Jitter.FULL), failures=0, random=half)
    assert again == Again(4, FAILURE)


@given(failures=st.integers(0, 2000), retries=st.integers(0, 1000))
def test_a_failing_task_comes_to_an_end(failures: int, retries: int) -> None:
    end = settle(Raised(FAILURE), Retry(max_retries=retries), failures=failures, random=half)
    assert isinstance(end, Bury if failures >= retries else Again)
