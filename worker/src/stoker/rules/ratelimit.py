"""A queue's rate limit as arithmetic: what `fetch.lua` does inside Redis for all workers together, and the laws are about.

The generic cell rate algorithm of ITU-T I.371 in its continuous-state leaky bucket form, which lets the same tasks go as the
theoretical arrival time does (that is `at` + `debt` / rate). In whole thousandths of a task and milliseconds it is exact.
"""

from typing import NamedTuple

THOUSAND = 1000
"""Thousandths in a task; a rate of n tasks a second pays back n of them in a millisecond."""


class Meter(NamedTuple):
    """What was let go and is not paid back yet, in thousandths of a task, at a moment in ms."""

    debt: int = 0
    at: int = 0


def allowed(per_second: int, burst: int, meter: Meter, now: int) -> int:
    """How many tasks may start at `now` (ms)."""
    return max(0, (burst * THOUSAND - _debt(per_second, meter, now)) // THOUSAND)


def let_go(per_second: int, meter: Meter, tasks: int, now: int) -> Meter:
    """The meter after so many tasks started."""
    return Meter(_debt(per_second, meter, now) + tasks * THOUSAND, now)


def wait_for(per_second: int, burst: int, meter: Meter, tasks: int, now: int) -> int:
    """In how many ms so many tasks (at most `burst`) may start at once."""
    missing = _debt(per_second, meter, now) - (burst - tasks) * THOUSAND
    return max(0, -(-missing // per_second))


def _debt(per_second: int, meter: Meter, now: int) -> int:
    return max(0, meter.debt - (now - meter.at) * per_second)
