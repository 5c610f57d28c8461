"""The scaling decision. No clock, no Redis, no Kubernetes: values and `now` in, a value out.

Called once a second or two by the operator and by `stoker up`, for each TaskQueue.
"""

from enum import StrEnum
from math import ceil
from typing import Literal

from msgspec import Struct

SPARE = 1.25
"""Room beside what a rate limit lets through, since arrivals and durations vary."""


class Demand(Struct, frozen=True):
    """What a queue asks for, in tasks. `due` are scheduled ones whose time has come.

    `throttled`: workers have room, but the queue's rate limit holds tasks back. `service_time` is the seconds
    a task takes, 0 where nobody knows.
    """

    ready: int = 0
    running: int = 0
    due: int = 0
    throttled: bool = False
    service_time: float = 0.0

    @property
    def waiting(self) -> int:
        """Tasks that a free slot could start now."""
        return self.ready + self.due


class Policy(Struct, frozen=True):
    """What a TaskQueue allows. Times in seconds; `slots` tasks run at once in one replica; `per_second` is the rate limit."""

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
    """What a decision hands to the next: since when it watches, when work was last seen, recent wishes (time, replicas)."""

    since: float
    busy_at: float
    wishes: tuple[tuple[float, int], ...] = ()


class Reason(StrEnum):
    """Why this many. Stable: they appear in status, Events and metrics."""

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
    """How many replicas, why, the highest wish before limits, and the memory for the next decision."""

    replicas: int
    reason: Reason
    wanted: int
    memory: Memory


def decide(demand: Demand | None, policy: Policy, replicas: int, memory: Memory | None, now: float) -> Decision:
    """How many replicas should exist where `replicas` are asked for today.

    `demand` None means that nothing is known: unknown is never zero, so the number is held.
    """
    # Seconds in which nobody looked are not quiet seconds: the windows start anew.
    afresh = Memory(since=now, busy_at=now)
    if policy.fixed is not None:
        return Decision(policy.fixed, Reason.FIXED, policy.fixed, afresh)
    if demand is None:
        return Decision(replicas, Reason.DEMAND_UNKNOWN, replicas, afresh)

    wanted = wish(demand, policy)
    memory = _remember(memory or afresh, demand, wanted, policy, now)
    target, reason = _target(wanted, policy, replicas, memory, now)
    if _paused(policy, target - replicas):
        return Decision(replicas, Reason.PAUSED, wanted, memory)
    return Decision(target, reason, wanted, memory)


def wish(demand: Demand, policy: Policy) -> int:
    """Replicas for the backlog, and never fewer than the running tasks fill."""
    backlog = ceil(demand.waiting / policy.backlog_per_replica)
    if policy.per_second is not None:
        backlog = min(backlog, ceil(_useful_slots(demand, policy.per_second) / policy.slots))
    return max(backlog, ceil(demand.running / policy.slots))


def _useful_slots(demand: Demand, per_second: int) -> float:
    """How many slots tasks could fill that may start only so often: a longer backlog needs no more than these.

    While the limit holds tasks back, what runs now and a little to spare, so that the workers never become the bottleneck.
    Else as many as the limit keeps busy (Little's law: rate x time), or twice what runs where tasks take longer than they did.
    """
    if demand.throttled:
        return max(1, SPARE * demand.running)
    return max(1, SPARE * per_second * demand.service_time, 2 * demand.running)


def _remember(memory: Memory, demand: Demand, wanted: int, policy: Policy, now: float) -> Memory:
    recent = tuple(wish for wish in memory.wishes if wish[0] > now - policy.stabilization)
    busy = demand.waiting + demand.running > 0
    return Memory(memory.since, now if busy else memory.busy_at, (*recent, (now, wanted)))


def _target(wanted: int, policy: Policy, replicas: int, memory: Memory, now: float) -> tuple[int, Reason]:
    if wanted > policy.max_replicas:
        return policy.max_replicas, Reason.AT_MAXIMUM
    wanted = max(wanted, policy.min_replicas)
    if wanted >= replicas:
        return wanted, Reason.SCALE_UP if wanted > replicas else Reason.STEADY

    if wanted == 0:
        if now - memory.busy_at < policy.idle_after:
            wanted = 1
        elif now - memory.since >= policy.idle_after:
            # Nobody has worked for a whole idle window: earlier wishes no longer hold anyone back.
            return 0, Reason.IDLE
    highest = min(max(wish for _, wish in memory.wishes), policy.max_replicas)
    if now - memory.since < policy.stabilization:
        highest = replicas
    wanted = max(wanted, highest)
    if wanted >= replicas:
        return replicas, Reason.STABILIZING if replicas > 1 else Reason.KEEPING_WARM
    return wanted, Reason.SCALE_DOWN


def _paused(policy: Policy, change: int) -> bool:
    return (change > 0 and policy.paused in {"ScaleOut", "All"}) or (change < 0 and policy.paused in {"ScaleIn", "All"})
