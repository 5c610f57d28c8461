"""The scaling decision. No clock, no Redis, no Kubernetes: values and `now` in, a value out.

Called every second by the operator and by `stoker up`, for each TaskQueue.
"""

from enum import StrEnum
from math import ceil
from typing import Literal

from msgspec import Struct

SPARE = 1.25
"""Slots beyond what a rate limit lets through, as a factor: arrivals and durations vary."""


class Demand(Struct, frozen=True):
    """The load of a queue, in tasks. `due` counts scheduled tasks that are due.

    `throttled`: slots are free, but the queue's rate limit delays tasks. `service_time`: average seconds of a run, 0 if unknown.
    """

    ready: int = 0
    running: int = 0
    due: int = 0
    throttled: bool = False
    service_time: float = 0.0

    @property
    def waiting(self) -> int:
        """Tasks that free slots could start now."""
        return self.ready + self.due


class Policy(Struct, frozen=True):
    """The scaling policy of a TaskQueue. Times in seconds; `slots`: concurrent tasks per replica; `per_second`: the rate limit."""

    slots: int
    backlog_per_replica: int
    min_replicas: int = 0
    max_replicas: int = 20
    fixed: int | None = None
    idle_after: float = 20.0
    stabilization: float = 20.0
    paused: Literal["None", "ScaleIn", "ScaleOut", "All"] = "None"
    per_second: int | None = None


class Memory(Struct, frozen=True):
    """Passed from one decision to the next: when observation began, when work was last seen, recent recommendations.

    Moments are those of `now`; a recommendation is a pair (moment, replicas).
    """

    since: float
    busy_at: float
    recommendations: tuple[tuple[float, int], ...] = ()


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


def decide(demand: Demand | None, policy: Policy, replicas: int, memory: Memory | None, now: float) -> Decision:
    """The number of replicas to request, where `replicas` are requested now. `now` in monotonic seconds.

    `demand` None means unknown, which is not zero: the number is held.
    """
    # Time without observation is not idle time: the windows restart.
    restarted = Memory(since=now, busy_at=now)
    if policy.fixed is not None:
        return Decision(policy.fixed, ScalingReason.FIXED, policy.fixed, restarted)
    if demand is None:
        return Decision(replicas, ScalingReason.DEMAND_UNKNOWN, replicas, restarted)

    wanted = recommend(demand, policy)
    memory = _remember(memory or restarted, demand, wanted, policy, now)
    target, reason = _target(wanted, policy, replicas, memory, now)
    if _paused(policy, target - replicas):
        return Decision(replicas, ScalingReason.PAUSED, wanted, memory)
    return Decision(target, reason, wanted, memory)


def recommend(demand: Demand, policy: Policy) -> int:
    """Replicas for the backlog, but at least those whose slots the running tasks fill."""
    backlog = ceil(demand.waiting / policy.backlog_per_replica)
    if policy.per_second is not None:
        backlog = min(backlog, ceil(_useful_slots(demand, policy.per_second) / policy.slots))
    return max(backlog, ceil(demand.running / policy.slots))


def _useful_slots(demand: Demand, per_second: int) -> float:
    """The slots that a rate-limited queue can keep busy: a longer backlog does not trigger a scale-up beyond these.

    While the limit delays tasks: the running ones and some spare, so that workers are never the bottleneck.
    Else Little's law (rate x service time), or twice what runs, in case runs take longer than their average.
    """
    if demand.throttled:
        return max(1, SPARE * demand.running)
    return max(1, SPARE * per_second * demand.service_time, 2 * demand.running)


def _remember(memory: Memory, demand: Demand, wanted: int, policy: Policy, now: float) -> Memory:
    recent = tuple(each for each in memory.recommendations if each[0] > now - policy.stabilization)
    busy = demand.waiting + demand.running > 0
    return Memory(memory.since, now if busy else memory.busy_at, (*recent, (now, wanted)))


def _target(wanted: int, policy: Policy, replicas: int, memory: Memory, now: float) -> tuple[int, ScalingReason]:
    if wanted > policy.max_replicas:
        return policy.max_replicas, ScalingReason.AT_MAXIMUM
    wanted = max(wanted, policy.min_replicas)
    if wanted >= replicas:
        return wanted, ScalingReason.SCALE_UP if wanted > replicas else ScalingReason.STEADY

    if wanted == 0:
        if now - memory.busy_at < policy.idle_after:
            wanted = 1
        elif now - memory.since >= policy.idle_after:
            # No work for a whole idle window: earlier recommendations no longer hold.
            return 0, ScalingReason.IDLE
    highest = min(max(count for _, count in memory.recommendations), policy.max_replicas)
    if now - memory.since < policy.stabilization:
        highest = replicas
    wanted = max(wanted, highest)
    if wanted >= replicas:
        return replicas, ScalingReason.STABILIZING if replicas > 1 else ScalingReason.KEEPING_WARM
    return wanted, ScalingReason.SCALE_DOWN


def _paused(policy: Policy, change: int) -> bool:
    return (change > 0 and policy.paused in {"ScaleOut", "All"}) or (change < 0 and policy.paused in {"ScaleIn", "All"})
