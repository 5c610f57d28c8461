"""What is known, as conditions, status and Events."""

import re
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from stoker.autoscale.decide import Memory, ScalingReason
from stoker.queue.records import QueueStats
from stoker_operator.report.condition import Condition
from stoker_operator.report.conditions import as_status, conditions, notices
from stoker_operator.report.readiness import USUAL_START
from stoker_operator.report.status import status, worth_writing
from stoker_operator.state.findings import Findings, Reading, ScaleChange, Scaling, Snapshot, Workers
from stoker_operator.state.problem import Problem, Reason
from tests.operator.observed import REF, task_queue
from tests.taskqueue_schema import schema


def halted(reason: str, message: str = "x") -> Problem:
    return Problem(Reason(reason), message)


STATS = QueueStats("emails", 3, 2, 1, 4, 0, 0, 0, 83.6, 1, False, 0.5)
READ = Reading(STATS)
AWAY = Reading(problem=halted("RedisUnreachable", "Redis does not answer"))
THOUGHT = Scaling(4, "Steady", Memory(0, 0))


def findings(workers: Workers | None = Workers("d", 4, 4, 4), problem: Problem | None = None, **spec: Any) -> Findings:
    manifest = task_queue(**spec)
    return Findings("uid-1", 7, manifest, "redis://redis", workers, problem, manifest.spec.suspend)


EDITED = replace(findings(problem=halted("InvalidSpec")), last_good=6)
UNCONNECTED = replace(findings(problem=halted("SecretMissing")), redis_url="")


def said(found: Findings, reading: Reading = READ, scaling: Scaling | None = THOUGHT) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in conditions(Snapshot(found, reading, scaling))}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(findings(), ("True", "WorkersReady"), id="all ready"),
        pytest.param(findings(Workers("d", 4, 4, 1)), ("True", "WorkersReady"), id="one ready is enough to work"),
        pytest.param(findings(Workers("d", 4, 4, 0)), ("Unknown", "WorkersStarting"), id="none ready yet"),
        pytest.param(findings(Workers("d", 4, 4, 0, restarts="pod a restarted once")), ("False", "WorkersNotReady"), id="restarts"),
        pytest.param(findings(Workers("d", 4, 5, 4, rollout="1 of 4")), ("Unknown", "RollingOut"), id="the old version is ready"),
        pytest.param(
            findings(Workers("d", 4, 5, 4, halted("WorkersFailing"), rollout="1 of 4")),
            ("False", "WorkersFailing"),
            id="the old version is ready, the new one cannot start",
        ),
        pytest.param(findings(Workers("d", 4, 4, 4, terminating=True)), ("False", "WorkersTerminating"), id="on its way out"),
        pytest.param(findings(None), ("False", "WorkersMissing"), id="no Deployment yet"),
        pytest.param(
            findings(Workers("d", 4, 4, 3, halted("WorkersFailing"))),
            ("False", "WorkersFailing"),
            id="one cannot start",
        ),
        pytest.param(findings(problem=halted("InvalidSpec")), ("False", "InvalidSpec"), id="a spec that cannot be served"),
    ],
)
def test_ready(found: Findings, expected: tuple[str, str]) -> None:
    assert said(found)["Ready"] == expected


NONE = Workers("d", 0, 0, 0)
IDLE = Reading(replace(STATS, ready=0, due=0))


@pytest.mark.parametrize(
    ("found", "reading", "expected"),
    [
        pytest.param(findings(NONE), IDLE, ("True", "ScaledToZero"), id="nothing to do"),
        pytest.param(findings(NONE), Reading(replace(STATS, paused=True)), ("True", "ScaledToZero"), id="the queue is paused"),
        pytest.param(findings(NONE), READ, ("Unknown", "WorkersStarting"), id="about to be scaled"),
        pytest.param(findings(NONE, replicas=0), READ, ("False", "NoWorkers"), id="none wanted by the spec, and tasks wait"),
        pytest.param(findings(NONE, replicas=0), IDLE, ("True", "ScaledToZero"), id="none wanted by the spec, and none needed"),
        pytest.param(findings(NONE, scaling={"paused": "All"}), READ, ("False", "NoWorkers"), id="the autoscaler is paused"),
        pytest.param(findings(NONE, scaling={"paused": "ScaleIn"}), READ, ("Unknown", "WorkersStarting"), id="only scaling in is"),
        pytest.param(findings(NONE, suspend=True), READ, ("False", "NoWorkers"), id="suspended"),
        pytest.param(findings(NONE), AWAY, ("Unknown", "DemandUnknown"), id="Redis is away"),
        pytest.param(findings(NONE), Reading(), ("Unknown", "Initializing"), id="not read yet"),
    ],
)
def test_at_zero_workers_ready_is_what_is_known(found: Findings, reading: Reading, expected: tuple[str, str]) -> None:
    assert said(found, reading)["Ready"] == expected


@pytest.mark.parametrize(("draining", "said_of_them"), [(0, "2 of 2 workers ready"), (1, "2 of 2 workers ready; 1 more drains")])
def test_pods_that_drain_beside_the_wanted_ones_are_said(draining: int, said_of_them: str) -> None:
    """A Deployment does not count pods that terminate: more than maxReplicas may exist."""
    found = findings(Workers("d", 2, 2, 2, draining=draining))
    (ready, *_) = conditions(Snapshot(found, READ, THOUGHT))
    assert ready.message == said_of_them
    assert stand(found)["drainingReplicas"] == draining


def test_a_start_that_takes_too_long_is_not_ready() -> None:
    known = Snapshot(findings(Workers("d", 4, 4, 0)), READ, THOUGHT)
    for seconds, expected in ((USUAL_START, "Unknown"), (USUAL_START + 1, "False")):
        shown = {each.type: each for each in conditions(known._replace(starting_for=seconds))}
        assert shown["Ready"].status == expected
        assert (shown["Reconciling"].status == "True") == (expected == "Unknown")


def test_a_version_that_cannot_start_says_that_the_one_before_works() -> None:
    workers = Workers("d", 4, 5, 4, halted("WorkersFailing", "pod b: ErrImagePull"), rollout="1 of 4")
    shown = {each.type: each for each in conditions(Snapshot(findings(workers), READ, THOUGHT))}
    assert shown["Ready"].message == "pod b: ErrImagePull; 4 workers of the version before ready"


@pytest.mark.parametrize(
    ("found", "reading", "expected"),
    [
        pytest.param(findings(), READ, ("True", "Connected"), id="read"),
        pytest.param(findings(), AWAY, ("False", "RedisUnreachable"), id="away"),
        pytest.param(findings(), Reading(), ("Unknown", "Initializing"), id="not read yet"),
        pytest.param(findings(problem=halted("QueueTaken")), READ, ("Unknown", "QueueTaken"), id="read for somebody else"),
        pytest.param(
            replace(findings(problem=halted("SecretMissing")), redis_url=""),
            READ,
            ("Unknown", "SecretMissing"),
            id="old news",
        ),
    ],
)
def test_redis_reachable(found: Findings, reading: Reading, expected: tuple[str, str]) -> None:
    assert said(found, reading)["RedisReachable"] == expected


@pytest.mark.parametrize(
    ("found", "reading", "scaling", "expected"),
    [
        pytest.param(findings(), READ, THOUGHT, ("True", "Scaling"), id="at work"),
        pytest.param(findings(), READ, None, ("Unknown", "Initializing"), id="not looked yet"),
        pytest.param(findings(), AWAY, THOUGHT, ("False", "DemandUnknown"), id="blind"),
        pytest.param(findings(replicas=4), AWAY, THOUGHT, ("False", "FixedReplicas"), id="fixed"),
        pytest.param(findings(suspend=True), READ, THOUGHT, ("False", "Suspended"), id="suspended"),
        pytest.param(findings(scaling={"paused": "All"}), READ, THOUGHT, ("False", "Paused"), id="paused"),
        pytest.param(findings(scaling={"paused": "ScaleIn"}), READ, THOUGHT, ("True", "Scaling"), id="half paused"),
        pytest.param(findings(problem=halted("NameTaken")), READ, None, ("False", "NameTaken"), id="halted"),
        pytest.param(findings(problem=halted("InvalidSpec")), READ, None, ("False", "InvalidSpec"), id="never applied"),
        pytest.param(EDITED, READ, THOUGHT, ("True", "Scaling"), id="a bad edit: the last good spec"),
        pytest.param(EDITED, AWAY, THOUGHT, ("False", "DemandUnknown"), id="a bad edit, blind"),
        pytest.param(
            findings(),
            READ,
            replace(THOUGHT, refused=halted("ScaleRefused", "no")),
            ("False", "ScaleRefused"),
            id="not allowed",
        ),
    ],
)
def test_scaling_active(found: Findings, reading: Reading, scaling: Scaling | None, expected: tuple[str, str]) -> None:
    assert said(found, reading, scaling)["ScalingActive"] == expected


def test_a_bad_edit_says_which_spec_scales_the_workers() -> None:
    shown = {each.type: each for each in conditions(Snapshot(EDITED, READ, THOUGHT))}
    assert shown["ScalingActive"].message == "4 workers desired: Steady, by the last good spec, generation 6"
    assert (shown["Ready"].status, shown["Ready"].reason) == ("False", "InvalidSpec")


def test_reasons_are_an_api_of_their_own() -> None:
    """The CRD holds their form; those that the autoscaler knows as well are the same words."""
    condition = schema()["properties"]["status"]["properties"]["conditions"]["items"]
    form = condition["properties"]["reason"]["pattern"]
    assert all(re.fullmatch(form, reason) and reason[0].isupper() for reason in Reason)
    assert len(set(Reason)) == len(Reason.__members__)
    shared = {Reason.DEMAND_UNKNOWN, Reason.FIXED_REPLICAS, Reason.PAUSED}
    assert {str(reason) for reason in shared} <= {str(reason) for reason in ScalingReason}


def test_suspended_and_stalled_stand_there_only_while_they_hold() -> None:
    assert set(said(findings())) == {"Ready", "Reconciling", "RedisReachable", "ScalingActive"}
    assert said(findings(suspend=True))["Suspended"] == ("True", "Suspended")
    assert said(findings(problem=halted("InvalidSpec")))["Stalled"] == ("True", "InvalidSpec")
    assert "Stalled" not in said(findings(problem=halted("SecretMissing")))  # passes by itself once it is made


def test_tasks_that_no_worker_knows_are_a_condition_while_there_are_some() -> None:
    """Shown in the status, and no reason for Ready to be False: the workers are as the spec asks."""
    reading = Reading(replace(STATS, unclaimed=2))
    assert said(findings(), reading) | {"Unclaimed": ("True", "UnknownTasks")} == said(findings(), reading)
    assert said(findings(), reading)["Ready"] == ("True", "WorkersReady")
    assert "Unclaimed" not in said(findings(), AWAY)
    shown = stand(findings(), reading)
    assert shown["queue"]["unclaimed"] == 2
    [message] = [each["message"] for each in shown["conditions"] if each["type"] == "Unclaimed"]
    assert message.startswith("no live worker knows the names of 2 tasks")
    assert "stoker tasks --queue emails --state ready" in message


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = as_status([Condition("Ready", "True", Reason("WorkersReady"), "1")], [], 1, "noon")
    same = as_status([Condition("Ready", "True", Reason("ScaledToZero"), "2")], first, 2, "one")
    turned = as_status([Condition("Ready", "False", Reason("NameTaken"), "3")], same, 2, "two")
    assert [each[0]["lastTransitionTime"] for each in (first, same, turned)] == ["noon", "noon", "two"]
    assert [each[0]["observedGeneration"] for each in (first, same, turned)] == [1, 2, 2]


def ready(state: Literal["True", "False", "Unknown"], reason: str) -> Condition:
    return Condition("Ready", state, Reason(reason), "words")


def redis(state: Literal["True", "False"], reason: str) -> Condition:
    return Condition("RedisReachable", state, Reason(reason), "words")


@pytest.mark.parametrize(
    ("before", "now", "reasons"),
    [
        pytest.param(None, ready("True", "ScaledToZero"), [], id="new and fine: no news"),
        pytest.param(None, ready("False", "InvalidSpec"), ["InvalidSpec"], id="new and wrong"),
        pytest.param(ready("False", "InvalidSpec"), ready("False", "InvalidSpec"), [], id="still wrong: said once"),
        pytest.param(ready("False", "InvalidSpec"), ready("False", "NameTaken"), ["NameTaken"], id="wrong in another way"),
        pytest.param(ready("False", "NameTaken"), ready("True", "WorkersReady"), ["Ready"], id="mended"),
        pytest.param(ready("False", "WorkersNotReady"), ready("True", "WorkersReady"), ["Ready"], id="came up at last"),
        pytest.param(ready("True", "ScaledToZero"), ready("Unknown", "WorkersStarting"), [], id="coming up: no news"),
        pytest.param(ready("Unknown", "WorkersStarting"), ready("True", "WorkersReady"), [], id="came up: no news"),
        pytest.param(ready("Unknown", "WorkersStarting"), ready("False", "WorkersNotReady"), ["WorkersNotReady"], id="too late"),
        pytest.param(redis("True", "Connected"), redis("False", "RedisUnreachable"), ["RedisUnreachable"], id="Redis went"),
        pytest.param(redis("False", "RedisUnreachable"), redis("True", "Connected"), ["RedisRecovered"], id="Redis came back"),
        pytest.param(None, redis("True", "Connected"), [], id="the first read: no news"),
    ],
)
def test_events_on_transitions_only(before: Condition | None, now: Condition, reasons: list[str]) -> None:
    previous = as_status([before], [], 1, "noon") if before else []
    assert [notice.reason for notice in notices([now], previous)] == reasons


def stand(found: Findings, reading: Reading = READ, scaling: Scaling | None = THOUGHT, **previous: Any) -> dict[str, Any]:
    known = Snapshot(found, reading, scaling)
    return status(REF, known, conditions(known), previous, "noon")


def test_the_status() -> None:
    change = ScaleChange("eleven", 0, 4, "ScaleUp")
    shown = stand(findings(Workers("d", 4, 3, 2)), scaling=replace(THOUGHT, change=change))
    del shown["conditions"]
    assert shown == {
        "observedGeneration": 7,
        "replicas": 3,
        "readyReplicas": 2,
        "updatedReplicas": 0,
        "drainingReplicas": 0,
        "desiredReplicas": 4,
        "selector": "app.kubernetes.io/name=stoker-worker,stoker.dev/taskqueue=emails",
        "deploymentRef": {"name": "emails-worker"},
        "templateHash": "",
        "workers": {"busy": 2, "idle": 30, "draining": 0},
        "queue": {"ready": 3, "unclaimed": 0, "running": 2, "scheduled": 1, "dead": 4, "oldestWait": "1m23s"},
        "autoscaling": {"lastScaleTime": "eleven", "lastDecision": {"from": 0, "to": 4, "reason": "ScaleUp"}},
    }


def test_a_restart_keeps_what_it_cannot_know() -> None:
    """The last change of scale, and the numbers of a Redis that is away."""
    kept = {"autoscaling": {"lastScaleTime": "eleven"}, "queue": {"ready": 3}}
    shown = stand(findings(), AWAY, THOUGHT, **kept)
    assert {key: shown[key] for key in kept} == kept


@pytest.mark.parametrize(
    ("change", "quiet_for", "expected"),
    [
        pytest.param({}, 999, False, id="nothing new"),
        pytest.param({"queue": {"ready": 9}}, 1, False, id="a fast number, just written"),
        pytest.param({"queue": {"ready": 9}}, 5, True, id="a fast number, a while ago"),
        pytest.param({"desiredReplicas": 9}, 0, True, id="replicas at once"),
        pytest.param({"conditions": []}, 0, True, id="conditions at once"),
    ],
)
def test_when_it_is_worth_a_write(change: dict[str, Any], quiet_for: float, expected: bool) -> None:
    before = stand(findings())
    assert worth_writing({**before, **change}, before, quiet_for) is expected


def test_words_that_change_by_the_second_wait() -> None:
    before = stand(findings(), Reading(problem=halted("RedisUnreachable", "refused")))
    after = stand(findings(), Reading(problem=halted("RedisUnreachable", "timed out")), **before)
    assert before != after
    assert not worth_writing(after, before, 1)
