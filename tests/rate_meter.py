"""The rate limit of a queue as arithmetic: the oracle for `fetch.lua`, which keeps one meter for all workers of a queue.

Generic cell rate algorithm of ITU-T I.371 in its continuous-state leaky bucket form; `at` + `debt` / rate is the theoretical
arrival time of the virtual scheduling form. Exact in integers: thousandths of a task, milliseconds.
"""

from typing import NamedTuple

THOUSAND = 1000
"""Thousandths in a task. A rate of n tasks a second pays back n of them each millisecond."""


class Meter(NamedTuple):
    """Tasks started and not paid back yet, in thousandths of a task, at a moment in ms."""

    debt: int = 0
    at: int = 0


def allowed(per_second: int, burst: int, meter: Meter, now: int) -> int:
    """How many tasks may start at `now` (ms)."""
    return max(0, (burst * THOUSAND - _debt(per_second, meter, now)) // THOUSAND)


def let_go(per_second: int, meter: Meter, tasks: int, now: int) -> Meter:
    """The meter after `tasks` have started."""
    return Meter(_debt(per_second, meter, now) + tasks * THOUSAND, now)


def wait_for(per_second: int, burst: int, meter: Meter, tasks: int, now: int) -> int:
    """Milliseconds until `tasks` (at most `burst`) may start at once."""
    missing = _debt(per_second, meter, now) - (burst - tasks) * THOUSAND
    return max(0, -(-missing // per_second))


def _debt(per_second: int, meter: Meter, now: int) -> int:
    return max(0, meter.debt - (now - meter.at) * per_second)
