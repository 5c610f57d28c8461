"""How long a failed task waits: longer each time, never beyond the limit, spread where asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import Invalid
from stoker.rules.retry import Jitter, Retry, backoff

STEADY = Retry(initial_delay=1, multiplier=2, max_delay=60, jitter=Jitter.NONE)

policies = st.builds(
    Retry,
    max_retries=st.integers(0, 1000),
    initial_delay=st.floats(0, 1e6),
    multiplier=st.floats(1, 100),
    max_delay=st.floats(0, 1e7),
    jitter=st.sampled_from(Jitter),
)
chances = st.floats(0, 1, exclude_max=True)
failures = st.integers(1, 1_000_000)


@pytest.mark.parametrize(
    ("number", "seconds"),
    [
        pytest.param(1, 1, id="the first failure waits the initial delay"),
        pytest.param(2, 2, id="the second twice that"),
        pytest.param(6, 32, id="the sixth 32 times"),
        pytest.param(7, 60, id="the seventh meets the limit"),
        pytest.param(10_000, 60, id="the ten thousandth does not overflow"),
    ],
)
def test_backoff(number: int, seconds: float) -> None:
    assert backoff(STEADY, number, lambda: 0.0) == seconds


@given(policies, failures, chances)
def test_never_negative_and_never_beyond_the_limit(policy: Retry, number: int, chance: float) -> None:
    assert 0 <= backoff(policy, number, lambda: chance) <= policy.max_delay


@given(policies, failures, chances)
def test_waits_never_get_shorter(policy: Retry, number: int, chance: float) -> None:
    assert backoff(policy, number, lambda: chance) <= backoff(policy, number + 1, lambda: chance)


@given(policies, failures, chances)
def test_full_jitter_is_that_share_of_the_steady_wait(policy: Retry, number: int, chance: float) -> None:
    full = Retry(3, policy.initial_delay, policy.multiplier, policy.max_delay, Jitter.FULL)
    none = Retry(3, policy.initial_delay, policy.multiplier, policy.max_delay, Jitter.NONE)
    assert backoff(full, number, lambda: chance) == chance * backoff(none, number, lambda: 0.0)


@pytest.mark.parametrize(
    "numbers",
    [
        {"max_retries": -1},
        {"initial_delay": -0.1},
        {"max_delay": float("nan")},
        {"multiplier": 0.5},
        {"max_delay": float("inf")},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_invalid(numbers: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="no number may be negative or endless"):
        Retry(**numbers)
