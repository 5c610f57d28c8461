"""Sizing: the slots with which tasks start within the promised wait. Pure; times in seconds."""

from math import sqrt

from msgspec import Struct

from stoker.autoscale.estimate import Estimates

HELD = 0.7
"""Part of the promised wait that a steady queue may take."""
DEADLINE = 0.85
"""Part of the promised wait within which a backlog is to start."""
SHORTEST = 0.2
"""Part of the promised wait that is planned with at least, when it is nearly over."""
CONFIDENCE = 1.64
"""Standard deviations above the mean: 95 % of a normal distribution."""
PARTS = (0.25, 0.5, 0.75, 1.0)


class Load(Struct, frozen=True):
    """The tasks that want a slot, now or within the start-up of a pod (`due`); the slots of a pod, and how many pods are ready."""

    ready: int
    running: int
    due: int
    slots: int
    ready_pods: int


def slots_needed(load: Load, estimates: Estimates, max_wait: float) -> float:
    """The larger of what keeps up with the arrivals and of what works off the backlog, but no more than there are tasks."""
    waiting = load.ready + load.due
    tasks = waiting + load.running + estimates.rate * estimates.startup
    return min(max(_for_arrivals(waiting, estimates, max_wait), _for_backlog(load, estimates, max_wait)), tasks)


def _for_arrivals(waiting: int, estimates: Estimates, max_wait: float) -> float:
    """Little's law, corrected towards the wait that is held; square-root staffing where start-up leaves no time to wait."""
    startup, service = estimates.startup, estimates.service_time
    held = max(0.0, HELD * max_wait - 0.5 * startup - 0.5 * service)
    busy = estimates.rate * service
    slots = busy + (waiting - estimates.rate * held) * service / max(startup, max_wait)
    if held < max_wait / 4:
        slots += sqrt(busy) * (1 - held / (max_wait / 4))
    return slots


def _for_backlog(load: Load, estimates: Estimates, max_wait: float) -> float:
    """The slots with which each part of the backlog, oldest first, starts before its deadline.

    Pods that are starting help once they are ready; further ones after a start-up. Tasks that no further pod can save do not ask
    for more than the later ones do.
    """
    service, startup, now = estimates.service_time, estimates.startup, estimates.at
    starting = [max(moment + startup - now, 0.0) for moment in estimates.requested]
    requested = load.slots * (load.ready_pods + len(starting))
    slots = load.due * service / (DEADLINE * max_wait)
    first = estimates.sample.enqueued - load.ready
    for part in PARTS:
        tasks = load.ready * part
        left = max(DEADLINE * max_wait - (now - estimates.enqueued_at(first + tasks)), 0.0)
        helped = load.ready_pods * left + sum(max(left - each, 0.0) for each in starting)
        missing = (tasks + CONFIDENCE * sqrt(tasks)) * service - load.slots * helped
        if missing > 0:
            time = max(left - startup, SHORTEST * max_wait) if left > startup else DEADLINE * max_wait
            slots = max(slots, requested + missing / time)
    return slots
