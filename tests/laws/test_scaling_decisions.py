"""How many workers should exist: a table to read aloud, and what must always hold."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.autoscale.decide import Decision, Demand, Memory, Policy, ScalingReason, decide, recommend
from stoker.autoscale.demand import demand_of, policy_of
from stoker.manifest.task_queue import parse
from stoker.queue.records import QueueStats

POLICY = Policy(slots=10, backlog_per_replica=100, min_replicas=0, max_replicas=20, idle_after=20, stabilization=20)
LONG_AGO, NOW = 0.0, 1000.0
QUIET = Memory(since=LONG_AGO, busy_at=LONG_AGO)


def but(**changes: Any) -> Policy:
    return Policy(**{**{name: getattr(POLICY, name) for name in POLICY.__struct_fields__}, **changes})


@pytest.mark.parametrize(
    ("demand", "policy", "replicas", "target", "reason"),
    [
        pytest.param(Demand(), POLICY, 0, 0, ScalingReason.STEADY, id="nothing to do, nobody there"),
        pytest.param(Demand(ready=1), POLICY, 0, 1, ScalingReason.SCALE_UP, id="one task wakes one worker"),
        pytest.param(Demand(due=1), POLICY, 0, 1, ScalingReason.SCALE_UP, id="one task that fell due wakes one worker"),
        pytest.param(Demand(ready=100), POLICY, 0, 1, ScalingReason.SCALE_UP, id="a full backlog for one"),
        pytest.param(Demand(ready=101), POLICY, 0, 2, ScalingReason.SCALE_UP, id="one task more asks for one more"),
        pytest.param(Demand(ready=60, due=60), POLICY, 0, 2, ScalingReason.SCALE_UP, id="due tasks wait like ready ones"),
        pytest.param(Demand(ready=1500), POLICY, 1, 15, ScalingReason.SCALE_UP, id="a burst is answered at once"),
        pytest.param(Demand(ready=10**9), POLICY, 1, 20, ScalingReason.AT_MAXIMUM, id="a flood meets the maximum"),
        pytest.param(Demand(ready=2000), POLICY, 20, 20, ScalingReason.STEADY, id="just as many as there are"),
        pytest.param(Demand(running=25), POLICY, 3, 3, ScalingReason.STEADY, id="running tasks keep the slots they fill"),
        pytest.param(Demand(running=25), POLICY, 1, 3, ScalingReason.SCALE_UP, id="running tasks without enough workers"),
        pytest.param(Demand(), but(min_replicas=2), 0, 2, ScalingReason.SCALE_UP, id="the minimum is kept without work"),
        pytest.param(Demand(), but(min_replicas=2), 2, 2, ScalingReason.STEADY, id="the minimum is enough without work"),
        pytest.param(None, POLICY, 4, 4, ScalingReason.DEMAND_UNKNOWN, id="blind means hold"),
        pytest.param(None, POLICY, 0, 0, ScalingReason.DEMAND_UNKNOWN, id="blind means hold, also nobody"),
        pytest.param(None, but(min_replicas=2), 0, 0, ScalingReason.DEMAND_UNKNOWN, id="blind does not even fill up"),
        pytest.param(None, but(fixed=3), 1, 3, ScalingReason.FIXED, id="a fixed number needs no eyes"),
        pytest.param(Demand(ready=10**6), but(fixed=0), 5, 0, ScalingReason.FIXED, id="fixed at nobody"),
        pytest.param(Demand(ready=500), but(paused="ScaleOut"), 1, 1, ScalingReason.PAUSED, id="no growth while growth is paused"),
        pytest.param(Demand(ready=500), but(paused="All"), 1, 1, ScalingReason.PAUSED, id="no growth while all is paused"),
        pytest.param(Demand(ready=500), but(paused="ScaleIn"), 1, 5, ScalingReason.SCALE_UP, id="growth while shrinking is paused"),
        pytest.param(Demand(), but(paused="ScaleIn"), 5, 5, ScalingReason.PAUSED, id="nobody leaves while shrinking is paused"),
        pytest.param(Demand(), but(paused="All"), 5, 5, ScalingReason.PAUSED, id="nobody leaves while all is paused"),
        pytest.param(Demand(), but(paused="ScaleOut"), 5, 0, ScalingReason.IDLE, id="all leave while only growth is paused"),
        pytest.param(Demand(), POLICY, 5, 0, ScalingReason.IDLE, id="after a whole idle window all leave"),
        pytest.param(Demand(ready=150), POLICY, 5, 2, ScalingReason.SCALE_DOWN, id="a lull long enough lets some leave"),
    ],
)
def test_after_a_long_quiet_time(demand: Demand | None, policy: Policy, replicas: int, target: int, reason: ScalingReason) -> None:
    decision = decide(demand, policy, replicas, QUIET, NOW)
    assert (decision.replicas, decision.reason) == (target, reason)


def story(policy: Policy, *steps: tuple[float, Demand | None], start: int = 0) -> list[Decision]:
    """Decide at these times, each time with the replicas and the memory of the time before."""
    decisions: list[Decision] = []
    replicas, memory = start, None
    for now, demand in steps:
        decision = decide(demand, policy, replicas, memory, now)
        replicas, memory = decision.replicas, decision.memory
        decisions.append(decision)
    return decisions


def targets(decisions: list[Decision]) -> list[int]:
    return [decision.replicas for decision in decisions]


def test_a_lull_shorter_than_the_stabilization_removes_no_worker() -> None:
    told = story(POLICY, (0, Demand(ready=500)), (10, Demand(ready=90)), (19, Demand(ready=500)), (38, Demand(ready=90)))
    assert targets(told) == [5, 5, 5, 5]
    assert told[-1].reason is ScalingReason.STABILIZING


def test_after_the_stabilization_the_highest_recommendation_within_it_counts() -> None:
    told = story(POLICY, (0, Demand(ready=900)), (15, Demand(ready=400)), (21, Demand(ready=90)), (36, Demand(ready=90)))
    assert targets(told) == [9, 9, 4, 1]


def test_the_last_worker_stays_until_the_queue_was_idle_for_the_window() -> None:
    told = story(POLICY, (0, Demand(ready=1)), (10, Demand()), (19.9, Demand()), (20, Demand()))
    assert targets(told) == [1, 1, 1, 0]
    assert [decision.reason for decision in told[1:]] == [
        ScalingReason.KEEPING_WARM,
        ScalingReason.KEEPING_WARM,
        ScalingReason.IDLE,
    ]


def test_one_task_in_between_restarts_the_idle_window() -> None:
    told = story(POLICY, (0, Demand(ready=1)), (15, Demand(running=1)), (34, Demand()), (35, Demand()))
    assert targets(told) == [1, 1, 1, 0]


def test_after_a_restart_no_worker_is_removed_until_a_window_has_been_watched() -> None:
    told = story(POLICY, (0, Demand(ready=100)), (19, Demand(ready=100)), (21, Demand(ready=100)), start=8)
    assert targets(told) == [8, 8, 1]


def test_blind_seconds_are_not_quiet_seconds() -> None:
    told = story(POLICY, (0, Demand(ready=100)), (30, Demand()), (31, None), (40, Demand()), (51, Demand()), start=1)
    assert targets(told) == [1, 0, 0, 0, 0]
    told = story(POLICY, (0, Demand(ready=1)), (15, None), (34, Demand()), (35, Demand()), start=1)
    assert targets(told) == [1, 1, 1, 0]


def test_fixed_seconds_are_not_quiet_seconds_either() -> None:
    """Nobody looked at the demand while the number was fixed, so the windows start when it is let go."""
    held = decide(Demand(running=9), but(fixed=4), 4, Memory(since=0, busy_at=0), 900)
    let_go = decide(Demand(), POLICY, 4, held.memory, 901)
    assert let_go.replicas == 4


def test_a_paused_queue_asks_for_no_worker_and_keeps_those_that_run() -> None:
    stats = QueueStats("emails", 1000, 7, 0, 0, 0, 0, 5, 0, 1, paused=False, completion_rate=0, throttled=True)
    assert demand_of(stats) == Demand(1000, 7, 5, throttled=True)
    assert demand_of(msgspec.structs.replace(stats, paused=True)) == Demand(running=7)


LIMITED = but(per_second=100, backlog_per_replica=40)


@pytest.mark.parametrize(
    ("demand", "wanted"),
    [
        pytest.param(Demand(ready=10_000), 1, id="one worker finds out how long a task takes"),
        pytest.param(Demand(ready=10_000, service_time=0.01), 1, id="100 short tasks a second fit in one worker"),
        pytest.param(Demand(ready=10_000, service_time=1.0), 13, id="tasks of a second keep 100 slots busy, and some to spare"),
        pytest.param(Demand(ready=80, service_time=1.0), 2, id="a short backlog asks for less than the limit lets through"),
        pytest.param(Demand(ready=10_000, running=100), 20, id="twice what runs, where tasks take longer than they did"),
        pytest.param(Demand(ready=10_000, running=32, throttled=True), 4, id="held back: what runs, and some to spare"),
        pytest.param(Demand(ready=10_000, throttled=True), 1, id="held back and nothing runs"),
        pytest.param(Demand(ready=10_000, running=32, service_time=9.0, throttled=True), 4, id="held back: no growth"),
        pytest.param(Demand(), 0, id="nothing waits"),
    ],
)
def test_a_rate_limit_needs_no_more_workers_than_it_keeps_busy(demand: Demand, wanted: int) -> None:
    assert recommend(demand, LIMITED) == wanted


def test_a_backlog_behind_a_rate_limit_ends_with_enough_workers_and_stays_there() -> None:
    """Tasks of 4 seconds at 100 a second fill 400 slots: 40 workers of ten slots, found from one without knowing the 4 seconds."""
    policy, slots, replicas, history = msgspec.structs.replace(LIMITED, max_replicas=1000), 10, 1, []
    for _ in range(20):
        running = min(replicas * slots, 400)
        replicas = recommend(Demand(100_000, running, throttled=running < replicas * slots), policy)
        history.append(replicas)
    assert set(history[-10:]) == {50}
    assert max(history) <= 64


def test_the_policy_is_what_the_manifest_says() -> None:
    scaling = {
        "minReplicas": 1, "maxReplicas": 9, "backlogPerReplica": 7, "idleAfter": "3s", "paused": "ScaleIn",
        "scaleDown": {"stabilization": "4s"},
    }  # fmt: skip
    spec = {"worker": {"concurrency": 5}, "scaling": scaling, "replicas": 2, "rateLimit": {"perSecond": 100, "burst": 200}}
    queue = parse({"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "q"}, "spec": spec})
    assert policy_of(queue.spec) == Policy(
        5, 7, min_replicas=1, max_replicas=9, fixed=2, idle_after=3, stabilization=4, paused="ScaleIn", per_second=100
    )


def test_the_promised_wait_is_what_the_manifest_says() -> None:
    spec = {"worker": {"concurrency": 5}, "scaling": {"slo": {"maxWait": "2m"}, "serviceTimeHint": "90s"}}
    queue = parse({"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "q"}, "spec": spec})
    assert policy_of(queue.spec) == Policy(5, max_wait=120, service_time_hint=90)


counts = st.integers(0, 100_000)
demands = st.builds(
    Demand,
    ready=counts,
    running=st.integers(0, 1000),
    due=counts,
    enqueued=counts,
    finished=counts,
    ready_replicas=st.integers(0, 60),
)
policies = st.builds(
    lambda least, more, **rest: Policy(min_replicas=least, max_replicas=max(1, least + more), **rest),
    least=st.integers(0, 10),
    more=st.integers(0, 30),
    slots=st.integers(1, 100),
    backlog_per_replica=st.none() | st.integers(1, 1000),
    max_wait=st.floats(1, 3600),
    idle_after=st.floats(0, 100),
    stabilization=st.floats(0, 100),
    paused=st.sampled_from(["None", "ScaleIn", "ScaleOut", "All"]),
)
histories = st.lists(st.tuples(st.floats(0.1, 60), st.none() | demands), min_size=1, max_size=12)


def history(policy: Policy, steps: list[tuple[float, Demand | None]], start: int) -> list[tuple[int, Demand | None, Decision]]:
    now, replicas, memory = 0.0, start, None
    told = []
    for pause, demand in steps:
        now += pause
        decision = decide(demand, policy, replicas, memory, now)
        told.append((replicas, demand, decision))
        replicas, memory = decision.replicas, decision.memory
    return told


@given(policies, histories, st.integers(0, 60))
def test_never_grows_above_the_maximum_and_never_shrinks_below_the_minimum(policy: Policy, steps: Any, start: int) -> None:
    for before, _, decision in history(policy, steps, start):
        assert decision.replicas <= max(before, policy.max_replicas)
        assert decision.replicas >= min(before, policy.min_replicas)


@given(policies, histories, st.integers(0, 60))
def test_what_is_unknown_changes_nothing(policy: Policy, steps: Any, start: int) -> None:
    for before, demand, decision in history(policy, steps, start):
        if demand is None:
            assert decision.replicas == before


@given(policies, histories, st.integers(0, 60))
def test_the_reason_fits_the_change(policy: Policy, steps: Any, start: int) -> None:
    for before, _, decision in history(policy, steps, start):
        change = decision.replicas - before
        if decision.reason in {
            ScalingReason.DEMAND_UNKNOWN,
            ScalingReason.PAUSED,
            ScalingReason.STABILIZING,
            ScalingReason.KEEPING_WARM,
            ScalingReason.STEADY,
        }:
            assert change == 0
        if decision.reason is ScalingReason.SCALE_UP:
            assert change > 0
        if decision.reason in {ScalingReason.SCALE_DOWN, ScalingReason.IDLE}:
            assert change < 0


@given(policies, histories, st.integers(0, 60))
def test_a_pause_stops_its_direction(policy: Policy, steps: Any, start: int) -> None:
    for before, _, decision in history(policy, steps, start):
        if policy.paused in {"ScaleIn", "All"}:
            assert decision.replicas >= before
        if policy.paused in {"ScaleOut", "All"}:
            assert decision.replicas <= before


@given(policies, histories, st.integers(0, 60))
def test_work_is_never_left_without_anyone(policy: Policy, steps: Any, start: int) -> None:
    for before, demand, decision in history(policy, steps, start):
        if demand and demand.waiting + demand.running and policy.paused in {"None", "ScaleIn"}:
            assert decision.replicas >= 1
        if demand and demand.waiting + demand.running and before:
            assert decision.replicas >= 1, "also under any pause: what is there stays there"


@given(policies, demands, st.integers(0, 60))
def test_the_first_look_never_lets_anyone_go(policy: Policy, demand: Demand, replicas: int) -> None:
    first = decide(demand, policy, replicas, None, 5.0)
    if replicas <= policy.max_replicas and policy.idle_after > 0 and policy.stabilization > 0:
        assert first.replicas >= replicas


@given(policies, histories, st.integers(0, 60))
def test_memory_does_not_grow_beyond_its_window(policy: Policy, steps: Any, start: int) -> None:
    now = 0.0
    for (pause, _), (_, _, decision) in zip(steps, history(policy, steps, start), strict=True):
        now += pause
        learned = 0.0 if policy.backlog_per_replica is not None else decision.memory.startup
        window = max(policy.stabilization, learned)
        assert all(at > now - window or at == now for at, _ in decision.memory.recommendations)
