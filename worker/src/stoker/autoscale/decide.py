"""The scaling decision. No clock, no Redis, no Kubernetes: values and `now` in, a value out.

Called every second by the operator and by `stoker up`, for each TaskQueue.
"""

from enum import StrEnum
from math import ceil, inf
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from stoker.autoscale.estimate import FIRST_STARTUP, Estimates, Sample, first_estimates, observe
from stoker.autoscale.sizing import Load, slots_needed

SPARE = 1.25
"""Slots beyond what a rate limit lets through, as a factor: arrivals and durations vary."""
PRIOR_PART = 0.25
"""Service time before one is known, as a part of the promised wait."""
SMALL_CHANGE = 0.1
"""Scale down only by more than this part of the replicas: a smaller change is noise."""
DOWN_APART = 10.0
"""Seconds between two steps down."""
UP_APART_PART, MOST_UP_APART = 1 / 6, 10.0
"""Seconds between two small steps up: this part of the promised wait, and at most so many."""
WARM_STARTUPS = 2.0
"""Start-ups for which the last pod is kept where a start-up takes more than half of the promised wait."""
LARGE_STEP = 1.5
"""A step up by this factor is made at once."""
LOOK_AHEAD_SPARE = 5.0
"""Seconds beyond a pod's start-up in which tasks that fall due count as demand."""
ROUNDING = 0.02
"""Part of a replica that is not rounded up."""


class Demand(Struct, frozen=True):
    """The load of a queue, in tasks. `due` counts scheduled tasks that are due.

    `throttled`: slots are free, but the queue's rate limit delays tasks. `service_time`: average seconds of a run, 0 if unknown.
    `enqueued` and `finished` count since the queue's first use; `ready_replicas` of those requested.
    """

    ready: int = 0
    running: int = 0
    due: int = 0
    throttled: bool = False
    service_time: float = 0.0
    enqueued: int = 0
    finished: int = 0
    ready_replicas: int = 0

    @property
    def waiting(self) -> int:
        """Tasks that free slots could start now."""
        return self.ready + self.due


class Policy(Struct, frozen=True):
    """The scaling policy of a TaskQueue. Times in seconds; `slots`: concurrent tasks per replica; `per_second`: the rate limit.

    `max_wait` is the promised wait; with `backlog_per_replica` the simple rule replaces it. `service_time_hint`: 0 for none.
    """

    slots: int
    backlog_per_replica: int | None = None
    max_wait: float = 30.0
    service_time_hint: float = 0.0
    min_replicas: int = 0
    max_replicas: int = 20
    fixed: int | None = None
    idle_after: float = 20.0
    stabilization: float = 20.0
    paused: Literal["None", "ScaleIn", "ScaleOut", "All"] = "None"
    per_second: int | None = None


class Memory(Struct, frozen=True):
    """Passed from one decision to the next: when observation began, when work was last seen, recent recommendations.

    Moments are those of `now`; a recommendation is a pair (moment, replicas). `down_at`, `up_at`: the last
    steps.
    """

    since: float
    busy_at: float
    recommendations: tuple[tuple[float, int], ...] = ()
    down_at: float = -inf
    up_at: float = -inf
    estimates: Estimates | None = None

    @property
    def startup(self) -> float:
        """Seconds that a new pod takes to get ready."""
        return self.estimates.startup if self.estimates else FIRST_STARTUP


class ScalingReason(StrEnum):
    """Why this number of replicas. Stable: they appear in status, Events and metrics."""

    DEMAND_UNKNOWN = "DemandUnknown"
    FIXED = "FixedReplicas"
    PAUSED = "Paused"
    SCALE_UP = "ScaleUp"
    SCALE_DOWN = "ScaleDown"
    AT_MAXIMUM = "AtMaximum"
    STABILIZING = "Stabilizing"
    KEEPING_WARM = "KeepingWarm"
    IDLE = "Idle"
    STEADY = "Steady"


class Decision(Struct, frozen=True):
    """Replicas and why, `wanted` replicas before limits and stabilization, and the memory for the next decision."""

    replicas: int
    reason: ScalingReason
    wanted: int
    memory: Memory


def look_ahead(policy: Policy, memory: Memory | None) -> float:
    """Seconds within which a task that falls due is demand: it needs a pod that is requested now."""
    if policy.backlog_per_replica is not None:
        return 0.0
    return (memory.startup if memory else FIRST_STARTUP) + LOOK_AHEAD_SPARE


def decide(demand: Demand | None, policy: Policy, replicas: int, memory: Memory | None, now: float) -> Decision:
    """The number of replicas to request, where `replicas` are requested now. `now` in monotonic seconds.

    `demand` None means unknown, which is not zero: the number is held.
    """
    estimates = memory.estimates if memory else None
    # Time without observation is not idle time: the windows restart.
    restarted = Memory(since=now, busy_at=now, estimates=estimates)
    if policy.fixed is not None:
        return Decision(policy.fixed, ScalingReason.FIXED, policy.fixed, restarted)
    if demand is None:
        return Decision(replicas, ScalingReason.DEMAND_UNKNOWN, replicas, restarted)

    estimates = _estimate(estimates, demand, policy, replicas, now)
    if estimates is None:  # what was known is of another Redis, or of one that lost data
        estimates, memory = _estimate(None, demand, policy, replicas, now), None
    wanted = recommend(demand, policy, estimates)
    memory = _remember(replace(memory or restarted, estimates=estimates), demand, wanted, policy, now)
    target, reason = _target(wanted, policy, replicas, memory, now)
    if _paused(policy, target - replicas):
        return Decision(replicas, ScalingReason.PAUSED, wanted, memory)
    if target != replicas:
        memory = replace(memory, up_at=now) if target > replicas else replace(memory, down_at=now)
    return Decision(target, reason, wanted, memory)


def recommend(demand: Demand, policy: Policy, estimates: Estimates | None = None) -> int:
    """Replicas for the tasks that wait, but at least those whose slots the running tasks fill."""
    if policy.backlog_per_replica is not None or estimates is None:
        backlog = ceil(demand.waiting / (policy.backlog_per_replica or policy.slots))
    else:
        load = Load(demand.ready, demand.running, demand.due, policy.slots, demand.ready_replicas)
        backlog = ceil(slots_needed(load, estimates, policy.max_wait) / policy.slots - ROUNDING)
    if policy.per_second is not None:
        backlog = min(backlog, ceil(_useful_slots(demand, policy.per_second) / policy.slots))
    return max(backlog, ceil(demand.running / policy.slots), min(1, demand.waiting))


def _estimate(last: Estimates | None, demand: Demand, policy: Policy, replicas: int, now: float) -> Estimates | None:
    sample = Sample(demand.enqueued, demand.finished, demand.running, replicas, demand.ready_replicas)
    if last is not None:
        return observe(last, sample, now)
    return first_estimates(sample, policy.service_time_hint or demand.service_time or PRIOR_PART * policy.max_wait, now)


def _useful_slots(demand: Demand, per_second: int) -> float:
    """The slots that a rate-limited queue can keep busy: a longer backlog does not trigger a scale-up beyond these.

    While the limit delays tasks: the running ones and some spare, so that workers are never the bottleneck.
    Else Little's law (rate x service time), or twice what runs, in case runs take longer than their average.
    """
    if demand.throttled:
        return max(1, SPARE * demand.running)
    return max(1, SPARE * per_second * demand.service_time, 2 * demand.running)


def _remember(memory: Memory, demand: Demand, wanted: int, policy: Policy, now: float) -> Memory:
    recent = tuple(each for each in memory.recommendations if each[0] > now - _window(policy, memory))
    if recent and recent[-1][1] <= wanted:  # only the highest of the window counts: what is lower and older never will
        recent = tuple(each for each in recent if each[1] > wanted)
    busy_at = now if demand.waiting + demand.running else memory.busy_at
    return replace(memory, busy_at=busy_at, recommendations=(*recent, (now, wanted)))


def _window(policy: Policy, memory: Memory) -> float:
    """Seconds for which a recommendation holds: a pod that is given up too early takes its start-up to come back."""
    if policy.backlog_per_replica is not None:
        return policy.stabilization
    return max(policy.stabilization, memory.startup)


def _target(wanted: int, policy: Policy, replicas: int, memory: Memory, now: float) -> tuple[int, ScalingReason]:
    if wanted > policy.max_replicas:
        return policy.max_replicas, ScalingReason.AT_MAXIMUM
    wanted = max(wanted, policy.min_replicas)
    quiet = now - max(memory.busy_at, memory.since)
    if quiet >= policy.idle_after and not policy.min_replicas:
        # No work for a whole idle window: earlier recommendations no longer hold, nor does a rate that has yet to fall.
        if quiet >= _idle_after(policy, memory):
            return 0, ScalingReason.IDLE if replicas else ScalingReason.STEADY
        return min(replicas, 1), ScalingReason.SCALE_DOWN if replicas > 1 else ScalingReason.KEEPING_WARM
    if wanted > replicas and _too_soon(wanted, policy, replicas, memory, now):
        wanted = replicas
    if wanted >= replicas:
        return wanted, ScalingReason.SCALE_UP if wanted > replicas else ScalingReason.STEADY
    wanted = max(wanted, 1)
    highest = min(max(count for _, count in memory.recommendations), policy.max_replicas)
    if now - memory.since < _window(policy, memory):
        highest = replicas
    wanted = max(wanted, highest)
    if wanted >= replicas or _too_small(wanted, policy, replicas, memory, now):
        return replicas, ScalingReason.STABILIZING if replicas > 1 else ScalingReason.KEEPING_WARM
    return wanted, ScalingReason.SCALE_DOWN


def _idle_after(policy: Policy, memory: Memory) -> float:
    """Seconds without work before the last pod goes; more where the next task would wait too long for a new one."""
    if policy.backlog_per_replica is not None or memory.startup <= policy.max_wait / 2:
        return policy.idle_after
    return max(policy.idle_after, WARM_STARTUPS * memory.startup)


def _too_soon(wanted: int, policy: Policy, replicas: int, memory: Memory, now: float) -> bool:
    """Whether a small step up follows the last one too soon: a ramp is climbed in few steps."""
    if policy.backlog_per_replica is not None or wanted >= LARGE_STEP * replicas:
        return False
    return now - memory.up_at < min(UP_APART_PART * policy.max_wait, MOST_UP_APART)


def _too_small(wanted: int, policy: Policy, replicas: int, memory: Memory, now: float) -> bool:
    """Whether a step down would be noise, or follows the last one too soon."""
    if policy.backlog_per_replica is not None:
        return False
    return replicas - wanted <= SMALL_CHANGE * replicas or now - memory.down_at < DOWN_APART


def _paused(policy: Policy, change: int) -> bool:
    return (change > 0 and policy.paused in {"ScaleOut", "All"}) or (change < 0 and policy.paused in {"ScaleIn", "All"})
