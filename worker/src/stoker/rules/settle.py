"""Settling: the outcome of a delivery, and the transition of the task that follows from it."""

from collections.abc import Callable
from typing import assert_never

import msgspec

from stoker.rules.retry import Backoff, backoff

UNKNOWN_TASK_DELAY = 1.0
"""Seconds until a task that this worker does not know, but another does, is ready again. Much less than a worker waits
(LONGEST_WAIT): Redis wakes the worker that has waited longest, and that must not be the one that handed the task back."""


class Failure(msgspec.Struct, frozen=True):
    """A failure as it is stored: the name of the exception's type, its message, the traceback as text.

    `fingerprint`: what it has in common with others of the same cause (rules/fingerprint.py); '' where no exception was raised.
    """

    type: str
    message: str
    traceback: str = ""
    fingerprint: str = ""


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The function returned. `value`: its result as JSON. `children`: the chains that it enqueued, as JSON (rules/workflow.py)."""

    value: bytes
    children: bytes = b""


class Raised(msgspec.Struct, frozen=True, tag=True):
    """The function raised, or hit its timeout."""

    failure: Failure


class Fatal(msgspec.Struct, frozen=True, tag=True):
    """The task can never succeed: it raised Dead, or its arguments do not match the function."""

    failure: Failure


class RetryAsked(msgspec.Struct, frozen=True, tag=True):
    """The task asked for a retry in `delay` seconds, with at most `max_retries`; None: as the policy says."""

    failure: Failure
    delay: float | None = None
    max_retries: int | None = None


class Snoozed(msgspec.Struct, frozen=True, tag=True):
    """The task asked to run later, in `delay` seconds. That is no failure."""

    delay: float
    reason: str = ""


class Expired(msgspec.Struct, frozen=True, tag=True):
    """The task expired before this run began."""


class Unknown(msgspec.Struct, frozen=True, tag=True):
    """This worker knows no task of that name, or only an older version. During a rollout, another worker may."""

    task: str
    version: int


class Interrupted(msgspec.Struct, frozen=True, tag=True):
    """The worker stopped before the task finished."""


class Cancelled(msgspec.Struct, frozen=True, tag=True):
    """The task was cancelled while it ran."""


Outcome = Returned | Raised | Fatal | RetryAsked | Snoozed | Expired | Unknown | Interrupted | Cancelled
"""Tagged, since child processes send some of them as JSON."""


class Succeed(msgspec.Struct, frozen=True):
    """The task succeeded; `value` (JSON) is its result."""

    value: bytes


class Retry(msgspec.Struct, frozen=True):
    """Retry after `delay` seconds; charges an attempt."""

    delay: float
    failure: Failure


class Bury(msgspec.Struct, frozen=True):
    """The task is dead. `fatal`: no retry could have helped; else its retries are used up."""

    failure: Failure
    fatal: bool = False


class Snooze(msgspec.Struct, frozen=True):
    """Run again after `delay` seconds; charges no attempt."""

    delay: float
    reason: str = ""


class Unclaim(msgspec.Struct, frozen=True):
    """Set the task aside as unclaimed, since the workers of `template` do not know it. If another living worker does: run again
    after `delay` seconds. Charges no attempt either way.
    """

    task: str
    version: int
    template: str
    delay: float


class Release(msgspec.Struct, frozen=True):
    """Give the task back, to the rank that it was taken from; charges no attempt."""


class Cancel(msgspec.Struct, frozen=True):
    """The task is cancelled: by request, or because it expired."""

    reason: str = ""


Transition = Succeed | Retry | Bury | Snooze | Unclaim | Release | Cancel


def settle(outcome: Outcome, policy: Backoff, *, failures: int, random: Callable[[], float], template: str = "-") -> Transition:
    """The transition for an outcome. `failures`: before this run. `template`: that of the worker (rules/announcement.py)."""
    match outcome:
        case Returned(value):
            return Succeed(value)
        case Raised(failure) if failures < policy.max_retries:
            return Retry(backoff(policy, failures + 1, random), failure)
        case RetryAsked(failure, delay, most) if failures < (policy.max_retries if most is None else most):
            return Retry(backoff(policy, failures + 1, random) if delay is None else delay, failure)
        case Raised(failure) | RetryAsked(failure):
            return Bury(failure)
        case Fatal(failure):
            return Bury(failure, fatal=True)
        case Unknown(task, version):
            return Unclaim(task, version, template, UNKNOWN_TASK_DELAY)
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
