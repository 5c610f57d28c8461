"""Others that change what the operator sets: who it was, what they changed, and when the operator steps back."""

import copy
import json
from typing import Any

import pytest

from stoker_operator.reconcile.drift import REPLICAS, Field, differences, setters, spelled
from stoker_operator.reconcile.plan import Apply, Live, Plan, live
from stoker_operator.reconcile.quarrels import Quarrels
from stoker_operator.report.conditions import conditions, notices
from stoker_operator.report.status import refusal, worth_writing
from stoker_operator.state.contest import QUIET, WINDOW, Contest
from stoker_operator.state.findings import Findings, Workers
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.problem import Problem, Reason, served_elsewhere
from tests.operator.observed import OWNER, REF, found, manifest

IMAGE: Field = ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"worker"}', "f:image")


def entry(manager: str, *fields: Field, time: str = "2026-01-01T00:00:00Z", **more: str) -> dict[str, Any]:
    """An entry of managedFields."""
    tree: dict[str, Any] = {}
    for field in fields:
        at = tree
        for step in field:
            at = at.setdefault(step, {})
    return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": tree, **more}


def managed(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}}


def changed_by(manager: str, image: str, generation: int) -> Live:
    after = copy.deepcopy(found(manifest()).manifest)
    after["spec"]["template"]["spec"]["containers"][0]["image"] = image
    after["metadata"] |= {"generation": generation, "managedFields": [entry(manager, IMAGE)] if manager else []}
    return live(after)


@pytest.mark.parametrize(
    ("entries", "field", "who"),
    [
        pytest.param([entry("kustomize", IMAGE)], IMAGE, ["kustomize"], id="who set the field"),
        pytest.param([entry("kustomize", REPLICAS)], IMAGE, [], id="not who set another"),
        pytest.param([entry("stoker-operator", IMAGE)], IMAGE, [], id="not the operator"),
        pytest.param([entry("a", IMAGE), entry("b", IMAGE, time="2026-01-02T00:00:00Z")], IMAGE, ["b", "a"], id="the last first"),
        pytest.param([entry("a", IMAGE[:4])], IMAGE, ["a"], id="a list set as a whole"),
        pytest.param([entry("a", REPLICAS, subresource="scale")], REPLICAS, ["a"], id="through /scale"),
        pytest.param([entry("a", ("f:status",), subresource="status")], (), [], id="a status is no spec"),
        pytest.param([{"manager": "a"}], REPLICAS, [], id="an entry without fields"),
    ],
)
def test_who_set_a_field(entries: list[dict[str, Any]], field: Field, who: list[str]) -> None:
    assert list(setters(managed(*entries), field)) == who


def test_a_field_is_named_as_people_write_it() -> None:
    assert spelled(IMAGE) == "spec.template.spec.containers[worker].image"
    assert list(differences(changed_by("x", "theirs:1", 2).manifest, manifest())) == [IMAGE]
    assert json.loads(IMAGE[4].removeprefix("k:")) == {"name": "worker"}


@pytest.mark.parametrize(
    ("moments", "tolerated", "now", "left", "pause"),
    [
        pytest.param([], 2, 0.0, 0.0, 0.0, id="nothing happened"),
        pytest.param([0.0, 1.0], 2, 1.0, 0.0, 0.0, id="as often as is tolerated"),
        pytest.param([0.0, 1.0, 2.0], 2, 2.0, QUIET, 2.0, id="once more"),
        pytest.param([0.0, 1.0, 2.0], 2, 3.5, QUIET - 1.5, 0.5, id="a while after"),
        pytest.param([0.0, 1.0, 2.0, 4.0, 8.0], 2, 8.0, QUIET, 8.0, id="the pause doubles"),
        pytest.param([float(each) for each in range(20)], 2, 19.0, QUIET, 60.0, id="up to a minute"),
        pytest.param([0.0, WINDOW, 2 * WINDOW], 2, 2 * WINDOW, 0.0, 0.0, id="once a minute is no contest"),
        pytest.param([0.0, 1.0, 2.0], 2, 2.0 + QUIET, 0.0, 0.0, id="over"),
        pytest.param([0.0, 1.0, 2.0, 2.0 + QUIET], 2, 2.0 + QUIET, QUIET, 4.0, id="and begun again by one change"),
        pytest.param([0.0, 1.0, 2.0, 9999.0], 2, 9999.0, 0.0, 0.0, id="forgotten after hours"),
    ],
)
def test_when_changes_are_a_contest(moments: list[float], tolerated: int, now: float, left: float, pause: float) -> None:
    contest = Contest()
    for moment in moments:
        contest = contest.changed(moment, tolerated)
    assert (contest.left(now), contest.pause(now)) == (left, pause)


def quarrel(manager: str, generations: list[int]) -> tuple[Quarrels, list[int], float]:
    """Applies that come back with another image each second. Returns how many actions were let through each time."""
    quarrels, apply, now, allowed = Quarrels(), Apply(manifest(), "deployment-1"), 0.0, []
    quarrels.applied(REF, apply.manifest, changed_by("", "shop:1", 1))
    for generation in generations:
        now += 1.0
        planned = quarrels.judge(REF, changed_by(manager, "theirs:1", generation), Plan((apply,)), now)
        allowed.append(len(planned.actions))
        if planned.actions:
            quarrels.applied(REF, apply.manifest, changed_by("", "shop:1", generation))
    return quarrels, allowed, now


def test_what_comes_back_changed_is_applied_ever_more_seldom_and_said() -> None:
    quarrels, allowed, now = quarrel("kustomize", [1] * 12)
    assert allowed == [1, 1, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0]  # after three: pauses of 2 s, 4 s, 8 s
    problem = quarrels.contested(REF, now)
    assert problem is not None
    assert "kustomize keeps changing spec.template.spec.containers[worker].image of Deployment emails-worker" in problem.message
    assert quarrels.contested(REF, now + QUIET) is None


def test_a_field_that_was_removed_counts_and_one_that_the_api_server_spells_otherwise_does_not() -> None:
    assert 0 in quarrel("", [2, 4, 6, 8, 10])[1]
    assert quarrel("", [1] * 5)[1] == [1] * 5


def test_another_spec_begins_again() -> None:
    quarrels, _, now = quarrel("kustomize", [1] * 5)
    other = Plan((Apply(manifest(worker={"image": "shop:2", "app": "shop:app"}), "deployment-1"),))
    assert quarrels.judge(REF, changed_by("kustomize", "theirs:1", 1), other, now).actions
    assert quarrels.contested(REF, now) is None


def scaled(*replicas: int, by: str = "kube-controller-manager", generation: int = 1) -> ManagedQueue:
    """A queue whose workers were observed with these numbers, a second apart, each set by another."""
    queue = ManagedQueue(REF, Findings(OWNER.uid, 1, workers=Workers("d", 1, 1, 1)), {})
    for second, number in enumerate(replicas, 1):
        workers = Workers("d", number, 1, 1, scaled_by=by if number != 1 else "")
        queue.observed(Findings(OWNER.uid, generation, workers=workers), {}, float(second))
    return queue


@pytest.mark.parametrize(
    ("replicas", "contested"),
    [
        pytest.param([3, 1, 3, 1], False, id="twice: a person"),
        pytest.param([3, 1, 3, 1, 3], True, id="three times: another scaler"),
        pytest.param([3, 3, 3, 3, 3], False, id="seen many times, set once"),
    ],
)
def test_who_scales_too_is_noticed(replicas: list[int], contested: bool) -> None:
    queue = scaled(*replicas)
    now = float(len(replicas))
    assert (queue.rescaled(now) is not None) == contested
    assert queue.rescaled(now + QUIET) is None
    told = [(notice.kind, notice.reason) for notice in notices(conditions(queue.snapshot_at(now)), ())]
    assert told == ([("Warning", Reason.REPLICAS_CONTESTED)] if contested else [])


def test_a_change_of_the_spec_ends_the_contest_of_the_replicas() -> None:
    queue = scaled(3, 1, 3, 1, 3)
    problem = queue.rescaled(5.0)
    assert problem is not None
    assert problem.message.startswith("a HorizontalPodAutoscaler (kube-controller-manager) keeps changing the replicas")
    queue.observed(Findings(OWNER.uid, 2, workers=Workers("d", 3, 1, 1)), {}, 6.0)
    assert queue.rescaled(6.0) is None


def test_another_installation_adds_one_condition_and_no_two_write_without_end() -> None:
    ready = {"type": "Ready", "status": "True", "reason": "WorkersReady", "message": "1 of 1 worker ready"}
    status = {"replicas": 1, "conditions": [ready]}
    problem: Problem = served_elsewhere(REF, "a/stoker", "b/stoker")
    refused = refusal(problem, status, 1, "2026-01-01T00:00:00Z")
    assert refused["conditions"][0] == ready
    assert refused["conditions"][1]["message"].startswith("served by operator a/stoker: operator b/stoker watches it too")
    assert refusal(problem, refused, 1, "2026-01-02T00:00:00Z") == refused
    assert not worth_writing(status, refused, 999.0)
