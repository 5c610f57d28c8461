"""Why a task waits: each row a situation, and what a person is told about it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.rules.history import What
from stoker.rules.states import TaskState
from stoker.rules.why import Cause, Facts, WorkerInfo, explain
from tests.task_life import GONE, LEADS_TO, MOVES

NOW = 1_800_000_000_000
FREE, BUSY = WorkerInfo(slots=4, busy=1), WorkerInfo(slots=4, busy=4)


def facts(state: TaskState = TaskState.READY, **others: Any) -> Facts:
    line = {"ahead": 0} if state is TaskState.READY else {}
    circumstances = {"workers": 1, "infos": (FREE,), **line, **others}
    return Facts("t1", "send_email", "emails", state, NOW, **circumstances)


@pytest.mark.parametrize(
    ("situation", "causes", "words"),
    [
        pytest.param(facts(), [Cause.NEXT], "next in line", id="next"),
        pytest.param(facts(ahead=3), [Cause.TASKS_AHEAD], "3 tasks are ahead of it", id="behind others"),
        pytest.param(facts(ahead=1), [Cause.TASKS_AHEAD], "1 task is ahead of it", id="behind another"),
        pytest.param(facts(infos=(BUSY,)), [Cause.SLOTS_BUSY, Cause.NEXT], "all 4 slots of 1 worker are busy", id="no slot"),
        pytest.param(
            facts(infos=(WorkerInfo(slots=4, busy=4, waiting=3),)),
            [Cause.SLOTS_BUSY, Cause.NEXT],
            "all 4 slots of 1 worker are busy; 3 of them with tasks that wait for other tasks of this queue",
            id="parents hold the slots",
        ),
        pytest.param(facts(paused=True), [Cause.PAUSED, Cause.NEXT], "stoker resume -q emails", id="paused"),
        pytest.param(facts(workers=0, infos=()), [Cause.NO_WORKERS, Cause.NEXT], "queue emails has no live worker", id="nobody"),
        pytest.param(
            facts(workers=1, infos=(WorkerInfo(slots=4, draining=True),)),
            [Cause.NO_WORKERS, Cause.NEXT],
            "every worker of queue emails is draining",
            id="all leave",
        ),
        pytest.param(
            facts(infos=(WorkerInfo(4, 0, tasks=frozenset({"resize"})),)),
            [Cause.UNCLAIMED, Cause.NEXT],
            "no live worker knows a task named 'send_email'; known tasks: resize",
            id="unknown to all",
        ),
        pytest.param(
            facts(ahead=None, unclaimed=NOW - 60_000, infos=(WorkerInfo(4, 0, tasks=frozenset({"resize"})),)),
            [Cause.UNCLAIMED],
            "no live worker knew a task named 'send_email' 60.0 s ago: it waits for one that does; known tasks: resize",
            id="unclaimed",
        ),
        pytest.param(
            facts(
                workers=2, infos=(WorkerInfo(4, 0, tasks=frozenset({"resize"})), WorkerInfo(4, 0, tasks=frozenset({"send_email"})))
            ),
            [Cause.NEXT],
            "next",
            id="known to one",
        ),
        pytest.param(
            facts(workers=2, infos=(WorkerInfo(4, 0, tasks=frozenset({"resize"})), WorkerInfo(4, 0))),
            [Cause.NEXT],
            "next",
            id="one does not say",
        ),
        pytest.param(
            facts(workers=200, infos=(WorkerInfo(4, 0, tasks=frozenset({"resize"})),)),
            [Cause.NEXT],
            "next",
            id="most were not asked",
        ),
        pytest.param(
            facts(parked=True, key="customer:7", most=2, holders=("a", "b"), ahead=1),
            [Cause.PARKED],
            "2 of 2 tasks with concurrency key 'customer:7' are running: a, b; 1 task is parked ahead of it",
            id="parked",
        ),
        pytest.param(
            facts(back_at=NOW + 300),
            [Cause.RATE_LIMIT, Cause.NEXT],
            "rate limit of the queue admits the next task in 0.3 s",
            id="throttled",
        ),
        pytest.param(facts(suspect=True, losses=2), [Cause.SUSPECT, Cause.NEXT], "lost with its worker 2 times", id="a suspect"),
        pytest.param(facts(TaskState.SCHEDULED, at=NOW + 9_000), [Cause.NOT_DUE], "due in 9.0 s", id="not due"),
        pytest.param(
            facts(TaskState.SCHEDULED, at=NOW + 600_000, failure="SmtpError: 451"),
            [Cause.NOT_DUE],
            "due in 10 min, to retry after SmtpError: 451",
            id="a retry",
        ),
        pytest.param(
            facts(TaskState.SCHEDULED, at=NOW - 1, overdue=3), [Cause.OVERDUE], "it is due, as are 2 others", id="overdue"
        ),
        pytest.param(
            facts(TaskState.SCHEDULED, at=NOW + 9_000, workers=0, infos=()),
            [Cause.NO_WORKERS, Cause.NOT_DUE],
            "no live worker",
            id="due to nobody",
        ),
        pytest.param(facts(TaskState.RUNNING, at=NOW + 1, worker="pod-1"), [Cause.RUNNING], "runs on worker pod-1", id="running"),
        pytest.param(
            facts(TaskState.RUNNING, at=NOW - 1, worker="pod-1"),
            [Cause.LEASE_EXPIRED],
            "has not renewed the lease",
            id="lease over",
        ),
        pytest.param(
            facts(TaskState.RUNNING, at=NOW + 1, worker="pod-1", cancel_at=NOW - 2_000),
            [Cause.CANCEL_REQUESTED, Cause.RUNNING],
            "cancellation was requested 2.0 s ago",
            id="cancelled while it runs",
        ),
        pytest.param(
            facts(TaskState.DEAD, failure="ValueError: no"),
            [Cause.DEAD],
            "it waits in the dead letters for a redrive: ValueError: no",
            id="dead",
        ),
        pytest.param(facts(TaskState.SUCCEEDED, paused=True), [Cause.SUCCEEDED], "succeeded", id="done: nothing holds it back"),
        pytest.param(facts(TaskState.CANCELLED, workers=0, infos=()), [Cause.CANCELLED], "cancelled", id="cancelled"),
    ],
)
def test_the_text_of_each_reason(situation: Facts, causes: list[Cause], words: str) -> None:
    explanation = explain(situation)
    assert [reason.cause for reason in explanation.reasons] == causes
    assert words in explanation.text


@pytest.mark.parametrize(
    ("situation", "seconds"),
    [
        pytest.param(facts(ahead=9, rate=5.0), 2.0, id="those before it, and itself"),
        pytest.param(facts(ahead=9), None, id="nothing completes"),
        pytest.param(facts(ahead=9, rate=5.0, paused=True), None, id="paused"),
        pytest.param(facts(ahead=9, rate=5.0, workers=0, infos=()), None, id="nobody works"),
        pytest.param(facts(ahead=9, rate=5.0, parked=True, key="k", most=1), None, id="parked: others of its key decide"),
        pytest.param(facts(TaskState.RUNNING, rate=5.0), None, id="running: nobody knows"),
    ],
)
def test_when_it_may_have_ended(situation: Facts, seconds: float | None) -> None:
    assert explain(situation).eta == seconds


infos = st.builds(WorkerInfo, st.integers(0, 9), st.integers(0, 9), st.booleans(), st.none() | st.frozensets(st.text(max_size=3)))
situations = st.builds(
    Facts,
    st.just("t"),
    st.just("task"),
    st.just("q"),
    st.sampled_from(TaskState),
    st.just(NOW),
    at=st.none() | st.integers(NOW - 10**7, NOW + 10**7),
    ahead=st.none() | st.integers(0, 10**6),
    overdue=st.integers(0, 5),
    paused=st.booleans(),
    suspect=st.booleans(),
    back_at=st.none() | st.integers(NOW - 10, NOW + 10**6),
    cancel_at=st.none() | st.integers(NOW - 10**6, NOW),
    rate=st.floats(0, 10**5),
    workers=st.integers(0, 5),
    infos=st.lists(infos, max_size=3).map(tuple),
    key=st.none() | st.text(max_size=3),
    most=st.integers(0, 3),
    parked=st.booleans(),
    holders=st.lists(st.text(max_size=3), max_size=3).map(tuple),
)


@given(situations)
def test_there_is_always_a_reason_and_no_reason_twice(situation: Facts) -> None:
    causes = [reason.cause for reason in explain(situation).reasons]
    assert causes
    assert len(causes) == len(set(causes))


@given(situations, st.integers(0, 10**6))
def test_more_before_it_never_ends_sooner(situation: Facts, more: int) -> None:
    if situation.ahead is not None and (eta := explain(situation).eta) is not None:
        later = explain(msgspec.structs.replace(situation, ahead=situation.ahead + more)).eta
        assert later is not None
        assert later >= eta >= 0


def test_every_state_change_has_an_event() -> None:
    moved_into = {state for states in LEADS_TO.values() for state in states}
    assert {target for targets in MOVES.values() for target in targets} <= moved_into


def test_everything_that_happens_to_a_task_leads_somewhere() -> None:
    assert set(What) - set(LEADS_TO) == {What.PAUSED, What.RESUMED}
    assert {what for what, states in LEADS_TO.items() if states == GONE} == {What.DELETED, What.PURGED, What.FORGOTTEN}
