"""The life of a task as data: no dead ends but the ends, no way around the lease."""

from collections.abc import Iterator

import pytest

from stoker.rules.states import TaskState
from tests.task_life import MOVES


def reachable(start: TaskState) -> set[TaskState]:
    seen: set[TaskState] = set()
    edge = [start]
    while edge:
        state = edge.pop()
        if state not in seen:
            seen.add(state)
            edge.extend(MOVES[state])
    return seen


def moves() -> Iterator[tuple[TaskState, TaskState]]:
    return ((origin, target) for origin, targets in MOVES.items() for target in targets)


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(TaskState)


@pytest.mark.parametrize("state", TaskState)
def test_no_state_moves_to_itself(state: TaskState) -> None:
    assert state not in MOVES[state]


@pytest.mark.parametrize("start", [TaskState.READY, TaskState.SCHEDULED], ids=lambda start: f"from {start}")
def test_a_new_task_may_reach_every_state(start: TaskState) -> None:
    assert reachable(start) == set(TaskState)


def test_a_task_succeeds_only_by_running() -> None:
    assert {origin for origin, target in moves() if target is TaskState.SUCCEEDED} == {TaskState.RUNNING}


def test_a_task_dies_by_running_or_because_no_worker_ever_knew_it() -> None:
    assert {origin for origin, target in moves() if target is TaskState.DEAD} == {TaskState.RUNNING, TaskState.READY}


def test_only_a_ready_task_is_taken_by_a_worker() -> None:
    assert {origin for origin, target in moves() if target is TaskState.RUNNING} == {TaskState.READY}


def test_final_are_the_states_that_no_program_leaves() -> None:
    assert {state for state in TaskState if state.final} == {TaskState.SUCCEEDED, TaskState.DEAD, TaskState.CANCELLED}
    assert MOVES[TaskState.CANCELLED] == frozenset()
    assert MOVES[TaskState.SUCCEEDED] == frozenset()
    assert MOVES[TaskState.DEAD] == {TaskState.READY}, "a person may give it another life"
