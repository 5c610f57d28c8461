"""Which failures are tried again, and after how long: longer each time, never beyond the limit, spread where asked."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import Invalid
from stoker.rules.retry import Backoff, Jitter, Retry, backoff, narrowed

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
    with pytest.raises(Invalid, match="all numbers must be finite and not negative"):
        Retry(**numbers)


@given(policies, failures, chances)
def test_equal_jitter_keeps_half_of_the_steady_wait(policy: Retry, number: int, chance: float) -> None:
    equal = Retry(3, policy.initial_delay, policy.multiplier, policy.max_delay, Jitter.EQUAL)
    steady = backoff(Retry(3, policy.initial_delay, policy.multiplier, policy.max_delay, Jitter.NONE), number, lambda: 0.0)
    assert steady / 2 <= backoff(equal, number, lambda: chance) <= steady


@given(policies, failures, st.randoms(use_true_random=False))
def test_decorrelated_jitter_stays_between_the_initial_delay_and_the_limit(policy: Retry, number: int, random: Random) -> None:
    loose = Retry(3, policy.initial_delay, policy.multiplier, policy.max_delay, Jitter.DECORRELATED)
    assert min(policy.initial_delay, policy.max_delay) <= backoff(loose, number, random.random) <= policy.max_delay


def test_decorrelated_jitter_walks_from_wait_to_wait() -> None:
    draws = iter([1.0, 0.5])
    assert backoff(Retry(3, 2, 3, 60, Jitter.DECORRELATED), 2, lambda: next(draws)) == 2 + (6 * 3 - 2) * 0.5


class Gone(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("policy", "kind", "covered"),
    [
        pytest.param(Retry(), ValueError, True, id="a policy is for every failure"),
        pytest.param(Retry(on=(ConnectionError,)), ConnectionError, True, id="or for one kind"),
        pytest.param(Retry(on=(ConnectionError,)), Gone, True, id="and for what is of that kind"),
        pytest.param(Retry(on=(ConnectionError,)), ValueError, False, id="and for no other"),
        pytest.param(Retry(on=(Gone,)), ConnectionError, False, id="a wider kind is another"),
        pytest.param(Retry(never=(ConnectionError,)), Gone, False, id="never is for subclasses too"),
        pytest.param(Retry(never=(ConnectionError,)), ValueError, True, id="and for nothing else"),
        pytest.param(Retry(on=(Gone,), never=(ConnectionError,)), Gone, False, id="never wins"),
    ],
)
def test_what_a_policy_is_for(policy: Retry, kind: type[BaseException], covered: bool) -> None:
    assert policy.covers(kind) is covered


@pytest.mark.parametrize("kinds", [[ValueError], ("ValueError",), (int,), ValueError], ids=str)
def test_only_a_tuple_of_exception_classes_says_what_it_is_for(kinds: Any) -> None:
    with pytest.raises(Invalid, match="give a tuple"):
        Retry(on=kinds)


QUEUE, TASK = Retry(5, 1, 2, 60), Retry(2, 3, 3, 30, never=(KeyError,))


@pytest.mark.parametrize(
    ("by", "policy"),
    [
        pytest.param(None, TASK, id="what says nothing changes nothing"),
        pytest.param(7, Retry(7, 3, 3, 30, never=(KeyError,)), id="an int says how often"),
        pytest.param(0, Retry(0, 3, 3, 30, never=(KeyError,)), id="nought says not at all"),
        pytest.param(QUEUE, QUEUE, id="a whole policy takes the place of the wider one"),
        pytest.param(Backoff(1, 1, 1, 1), Retry(1, 1, 1, 1, never=(KeyError,)), id="numbers leave it its exception classes"),
    ],
)
def test_a_narrower_policy_changes_the_wider_one(by: Backoff | int | None, policy: Retry) -> None:
    assert narrowed(TASK, by) == policy
