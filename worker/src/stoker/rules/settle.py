"""From what happened to a delivery to what becomes of the task: the outcome and the one transition it leads to."""

from collections.abc import Callable
from typing import assert_never

import msgspec

from stoker.rules.retry import Backoff, backoff

UNKNOWN_TASK_GRACE = 600.0
UNKNOWN_TASK_DELAY = 5.0


class Failure(msgspec.Struct, frozen=True):
    """What went wrong, as it is kept: the exception's type, its text, the traceback's text."""

    type: str
    message: str
    traceback: str = ""


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The function returned; `value` is its result as JSON, `children` the chains that it has sent meanwhile, as JSON too."""

    value: bytes
    children: bytes = b""


class Raised(msgspec.Struct, frozen=True, tag=True):
    """The function raised, or ran out of time."""

    failure: Failure


class Fatal(msgspec.Struct, frozen=True, tag=True):
    """It can never succeed: the task said so, or its arguments do not fit."""

    failure: Failure


class RetryAsked(msgspec.Struct, frozen=True, tag=True):
    """The task asked for another attempt: in `delay` seconds, of at most `max_retries`; None leaves it to the policy."""

    failure: Failure
    delay: float | None = None
    max_retries: int | None = None


class Snoozed(msgspec.Struct, frozen=True, tag=True):
    """The task wants to run again in `delay` seconds, and has not failed."""

    delay: float
    reason: str = ""


class Expired(msgspec.Struct, frozen=True, tag=True):
    """Its time was over before it could run."""


class Unknown(msgspec.Struct, frozen=True, tag=True):
    """This worker has no function of that name. During a rollout another one may."""

    failure: Failure


class Interrupted(msgspec.Struct, frozen=True, tag=True):
    """The worker is leaving and gave the task up unfinished."""


class Cancelled(msgspec.Struct, frozen=True, tag=True):
    """Somebody cancelled the task while it ran."""


Outcome = Returned | Raised | Fatal | RetryAsked | Snoozed | Expired | Unknown | Interrupted | Cancelled
"""Tagged, since some are told by a child process."""


class Succeed(msgspec.Struct, frozen=True):
    """Done; keep `value` (JSON) as the result."""

    value: bytes


class Retry(msgspec.Struct, frozen=True):
    """Run again after `delay` seconds, with one attempt charged."""

    delay: float
    failure: Failure


class Bury(msgspec.Struct, frozen=True):
    """Into the dead letters."""

    failure: Failure


class Snooze(msgspec.Struct, frozen=True):
    """Run again after `delay` seconds, no attempt charged."""

    delay: float
    reason: str = ""


class Release(msgspec.Struct, frozen=True):
    """Back to the place in line it was taken from, no attempt charged."""


class Cancel(msgspec.Struct, frozen=True):
    """Ended at somebody's wish, of now or of when it was enqueued."""

    reason: str = ""


Transition = Succeed | Retry | Bury | Snooze | Release | Cancel


def settle(
    outcome: Outcome, policy: Backoff, *, failures: int, random: Callable[[], float], unknown_for: float = 0.0
) -> Transition:
    """What becomes of a delivery. `failures` counts earlier ones; for `unknown_for` seconds its worker has not known it."""
    match outcome:
        case Returned(value):
            return Succeed(value)
        case Raised(failure) if failures < policy.max_retries:
            return Retry(backoff(policy, failures + 1, random), failure)
        case RetryAsked(failure, delay, most) if failures < (policy.max_retries if most is None else most):
            return Retry(backoff(policy, failures + 1, random) if delay is None else delay, failure)
        case Raised(failure) | RetryAsked(failure) | Fatal(failure):
            return Bury(failure)
        case Unknown() if unknown_for < UNKNOWN_TASK_GRACE:
            # An old worker during a rollout: the new one may start any moment.
            return Snooze(UNKNOWN_TASK_DELAY, "unknown here")
        case Unknown(failure):
            return Bury(failure)
        case Snoozed(delay, reason):
            return Snooze(delay, reason)
        case Interrupted() | Cancelled() | Expired():
            return _given_up(outcome)
        case _:
            assert_never(outcome)


def _given_up(outcome: Interrupted | Cancelled | Expired) -> Transition:
    match outcome:
        case Interrupted():
            return Release()
        case Cancelled():
            return Cancel()
        case Expired():
            return Cancel("expired")
