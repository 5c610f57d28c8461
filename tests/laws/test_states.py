"""The life of a task as data: no dead ends but the ends, no way around the lease."""

from collections.abc import Iterator

import pytest

from stoker.rules.states import MOVES, State


def reachable(start: State) -> set[State]:
    seen: set[State] = set()
    edge = [start]
    while edge:
        state = edge.pop()
        if state not in seen:
            seen.add(state)
            edge.extend(MOVES[state])
    return seen


def moves() -> Iterator[tuple[State, State]]:
    return ((origin, target) for origin, targets in MOVES.items() for target in targets)


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("state", State)
def test_no_state_moves_to_itself(state: State) -> None:
    assert state not in MOVES[state]


@pytest.mark.parametrize("start", [State.READY, State.SCHEDULED], ids=lambda start: f"from {start}")
def test_a_new_task_may_reach_every_state(start: State) -> None:
    assert reachable(start) == set(State)


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.DEAD], ids=lambda end: f"to {end}")
def test_a_task_ends_only_by_running(end: State) -> None:
    assert {origin for origin, target in moves() if target is end} == {State.RUNNING}


def test_only_a_ready_task_is_taken_by_a_worker() -> None:
    assert {origin for origin, target in moves() if target is State.RUNNING} == {State.READY}


def test_final_are_the_states_that_no_program_leaves() -> None:
    assert {state for state in State if state.final} == {State.SUCCEEDED, State.DEAD, State.CANCELLED}
    assert MOVES[State.CANCELLED] == frozenset()
    assert MOVES[State.SUCCEEDED] == frozenset()
    assert MOVES[State.DEAD] == {State.READY}, "a person may give it another life"
