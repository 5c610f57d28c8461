"""One condition of a TaskQueue."""

from typing import Literal, NamedTuple

from stoker_operator.state.problem import Problem, Reason

Type = Literal[
    "Ready",
    "RedisReachable",
    "ScalingActive",
    "Reconciling",
    "Suspended",
    "Stalled",
    "Unclaimed",
    "Contested",
    "Incomplete",
    "TasksLeftBehind",
    "RolloutPaused",
]


class Condition(NamedTuple):
    """One aspect at this moment."""

    type: Type
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: str


def because(kind: Type, status: Literal["True", "False"], problem: Problem) -> Condition:
    """The condition for a problem."""
    return Condition(kind, status, problem.reason, problem.message)


def count(replicas: int) -> str:
    """`1 worker`, `3 workers`."""
    return "1 worker" if replicas == 1 else f"{replicas} workers"
