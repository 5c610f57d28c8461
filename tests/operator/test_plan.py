"""What to do about what was observed."""

import copy
from typing import Any

import pytest
from msgspec.structs import replace

from stoker_operator.reconcile.drift import drifted
from stoker_operator.reconcile.plan import Apply, Create, Live, Observed, Plan, plan
from stoker_operator.reconcile.plan import live as live_of
from stoker_operator.reconcile.resources import Connection
from stoker_operator.state.problem import Problem, Reason
from stoker_operator.state.ref import Owner
from tests.operator.observed import CONNECTION, OWNER, REF, found, manifest, task_queue

TAKEN, AWAY = Problem(Reason.QUEUE_TAKEN, "taken"), Problem(Reason.REDIS_UNREACHABLE, "away")


def after(live: Live | None, *, taken: Problem | None = None, unclaimed: Problem | None = None, **spec: Any) -> Plan:
    return plan(Observed(task_queue(**spec), OWNER, CONNECTION, "", live, taken, unclaimed))


def shape(planned: Plan) -> tuple[list[str], str]:
    return [type(action).__name__ for action in planned.actions], planned.problem.reason if planned.problem else ""


def owned(by: dict[str, Any] | None, **spec: Any) -> Live:
    """The Deployment under another controller, or under none."""
    bare = manifest()
    references = [{"controller": True, **by}] if by else []
    return found({**bare, "metadata": {**bare["metadata"], "ownerReferences": references}, "spec": {**bare["spec"], **spec}})


ORPHAN = owned(None)
RELABELLED = owned(None, selector={"matchLabels": {"app": "theirs"}})
STRANGER = owned({"kind": "Rollout", "name": "theirs", "uid": "uid-9"})
REBORN = owned({"kind": "TaskQueue", "name": REF.name, "uid": "uid-of-the-one-before"})
OURS = found(manifest(), replicas=2)
LEAVING = live_of({**OURS.manifest, "metadata": {**OURS.manifest["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})


@pytest.mark.parametrize(
    ("observed", "actions", "problem"),
    [
        pytest.param({"live": None}, ["Create", "HandOver"], "", id="nothing there: make it"),
        pytest.param({"live": OURS}, [], "", id="all as it should be: nothing"),
        pytest.param({"live": OURS, "worker": {"image": "shop:2"}}, ["Apply"], "", id="another image: apply"),
        pytest.param({"live": LEAVING, "worker": {"image": "shop:2"}}, [], "", id="it is being deleted: wait until it is gone"),
        pytest.param({"live": OURS, "worker": {"image": "shop:2"}, "suspend": True}, [], "", id="suspended: hands off"),
        pytest.param({"live": None, "suspend": True}, [], "", id="suspended from the start: nothing is made"),
        pytest.param({"live": STRANGER}, [], "NameTaken", id="a stranger's: hands off"),
        pytest.param({"live": ORPHAN}, ["Apply"], "", id="an orphan of ours, as a backup brings it back: taken back"),
        pytest.param({"live": RELABELLED}, [], "NameTaken", id="without an owner, with another selector: hands off"),
        pytest.param({"live": REBORN}, [], "NameTaken", id="its predecessor's: hands off until it is gone"),
        pytest.param({"live": None, "taken": TAKEN}, [], "QueueTaken", id="another claims the queue: no workers"),
        pytest.param({"live": OURS, "taken": TAKEN}, [], "QueueTaken", id="a newcomer's claim retires no worker"),
        pytest.param({"live": STRANGER, "taken": TAKEN}, [], "NameTaken", id="a stranger's, and taken"),
        pytest.param({"live": None, "unclaimed": AWAY}, [], "RedisUnreachable", id="Redis is away: a new one waits"),
        pytest.param({"live": OURS, "unclaimed": AWAY}, [], "", id="Redis is away: workers stay"),
        pytest.param({"live": OURS, "unclaimed": AWAY, "worker": {"image": "shop:2"}}, ["Apply"], "", id="and are kept up to date"),
    ],
)
def test_the_plan(observed: dict[str, Any], actions: list[str], problem: str) -> None:
    assert shape(after(**observed)) == (actions, problem)


@pytest.mark.parametrize(
    ("spec", "replicas"),
    [
        pytest.param({}, 0, id="zero by default"),
        pytest.param({"scaling": {"minReplicas": 3}}, 3, id="the minimum"),
        pytest.param({"scaling": {"minReplicas": 3}, "replicas": 0}, 0, id="a fixed number, even zero"),
    ],
)
def test_a_new_queue_starts_with(spec: dict[str, Any], replicas: int) -> None:
    create, _ = after(None, **spec).actions
    assert isinstance(create, Create)
    assert create.manifest["spec"]["replicas"] == replicas


def test_a_pass_that_was_cut_short_after_creating_is_finished_by_the_next() -> None:
    create = after(None).actions[0]
    assert isinstance(create, Create)
    entry = {"manager": "stoker-operator", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}, "f:replicas": {}}}}
    half_made = found({**create.manifest, "metadata": {**create.manifest["metadata"], "managedFields": [entry]}})
    planned = after(half_made)
    assert shape(planned) == (["HandOver", "Apply"], "")
    assert isinstance(apply := planned.actions[1], Apply)
    assert "replicas" not in apply.manifest["spec"]


def rolling(replicas: int, pods: int, updated: int, observed: int) -> Live:
    status = {"replicas": pods, "readyReplicas": pods, "updatedReplicas": updated, "observedGeneration": observed}
    manifest = {**OURS.manifest, "metadata": {**OURS.manifest["metadata"], "generation": 5}, "status": status}
    return live_of({**manifest, "spec": {**manifest["spec"], "replicas": replicas}})


@pytest.mark.parametrize(
    ("live", "message"),
    [
        pytest.param(rolling(4, 4, 4, 5), "", id="all new"),
        pytest.param(rolling(4, 2, 2, 5), "", id="a scale-up makes no old ones"),
        pytest.param(rolling(4, 4, 4, 3), "the new version has not begun to roll out", id="the controller has not seen it"),
        pytest.param(rolling(4, 4, 4, 4), "", id="it has seen the version, not the last scale"),
        pytest.param(rolling(4, 5, 1, 5), "1 of 4 workers are of the newest version, 4 of another", id="under way"),
        pytest.param(rolling(0, 1, 0, 5), "0 of 0 workers are of the newest version, 1 of another", id="the last old one drains"),
    ],
)
def test_a_rollout_is_under_way_while_others_than_the_newest_version_run(live: Live, message: str) -> None:
    assert live.rollout(since=4) == message


def test_whose_it_is_goes_by_uid() -> None:
    assert OURS.belongs_to(OWNER)
    assert not OURS.belongs_to(Owner(REF, "uid-2"))


def edited(path: str, value: Any) -> dict[str, Any]:
    live = copy.deepcopy(OURS.manifest)
    *parents, last = path.split(".")
    part: Any = live
    for key in parents:
        part = part[int(key)] if isinstance(part, list) else part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return live


POD = "spec.template.spec"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param("spec.replicas", 9, False, id="replicas are the autoscaler's"),
        pytest.param("metadata.labels.team", "mail", False, id="a label that others added is theirs"),
        pytest.param(f"{POD}.dnsPolicy", "ClusterFirst", False, id="a default that the API server filled in"),
        pytest.param(f"{POD}.containers.0.image", "evil:1", True, id="another image"),
        pytest.param(f"{POD}.containers.0.env.1.value", "other", True, id="another value of a variable"),
        pytest.param(f"{POD}.securityContext.runAsNonRoot", False, True, id="root allowed"),
        pytest.param(f"{POD}.volumes", None, True, id="the volume is gone"),
        pytest.param("spec.paused", True, True, id="the rollout was paused"),
        pytest.param("metadata.ownerReferences", None, True, id="the owner was taken off"),
        pytest.param("metadata.annotations", None, True, id="our mark was taken off"),
    ],
)
def test_drift(path: str, value: Any, expected: bool) -> None:
    assert drifted(edited(path, value), manifest()) is expected


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (STRANGER, "controlled by Rollout theirs"),
        (REBORN, "controlled by an earlier TaskQueue of this name"),
        (RELABELLED, "nothing controls it"),
    ],
)
def test_a_taken_name_says_by_whom(live: Live, words: str) -> None:
    problem = after(live).problem
    assert problem is not None
    assert words in problem.message


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("1024Mi", "1Gi"), ("1000m", "1"), ("0.5", "500m"), (0.5, "500m"), (1, "1"), ("1e3", "1k"), ("0", "0")],
)
def test_a_quantity_in_another_spelling_is_no_drift(sent: Any, stored: str) -> None:
    def resources(value: Any) -> dict[str, Any]:
        worker = {"image": "shop:1", "app": "shop:app", "resources": {"limits": {"cpu": value}, "requests": {"cpu": value}}}
        return manifest(worker=worker)

    live, wanted = copy.deepcopy(found(resources(sent)).manifest), resources(sent)
    limits = live["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    limits["cpu"] = stored
    assert not drifted(live, wanted)
    limits["cpu"] = "7"
    assert drifted(live, wanted)
    limits["cpu"] = "much"
    assert drifted(live, wanted)


def test_a_changed_secret_is_drift() -> None:
    assert drifted(OURS.manifest, manifest(Connection(CONNECTION.url, "digest-2")))


def test_a_label_that_the_taskqueue_has_no_longer_is_taken_from_the_deployment() -> None:
    labelled = Observed(task_queue(), OWNER, CONNECTION, inherited={"team": "payments"})
    [create, _] = plan(labelled).actions
    assert isinstance(create, Create)
    first = create.manifest
    live = found(first)
    assert first["metadata"]["labels"]["team"] == "payments"
    assert plan(replace(labelled, live=live)).actions == ()
    [apply] = plan(replace(labelled, live=live, inherited={})).actions
    assert isinstance(apply, Apply)
    assert "team" not in apply.manifest["metadata"]["labels"]
