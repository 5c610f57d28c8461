"""A rollout whose new pods fail is paused where it stands, while old pods are there to go on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stoker_operator.reconcile.plan import Apply, Observed, plan
from stoker_operator.reconcile.plan import live as live_of
from stoker_operator.reconcile.resources import Connection, deployment
from stoker_operator.reconcile.rollout import LAST_WORDS, PROOF_SECONDS, READY_MARGIN, figures, held, judge
from stoker_operator.state.findings import Trial
from tests.operator.observed import OWNER, found, task_queue
from tests.operator.operating import Cluster, unique, until

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
WORKER = {"image": "shop:2", "app": "shop:app", "startupTimeout": "100s"}
QUEUE = task_queue(worker=WORKER)
WANTED = deployment(QUEUE, OWNER, Connection("redis://r"))
STAMP = WANTED["metadata"]["annotations"]["stoker.dev/template-hash"]


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    name: str, *containers: dict[str, Any], template: str = STAMP, ready_for: float | None = None, **status: Any
) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": ago(ready_for)}] if ready_for is not None else []
    env = [{"name": "STOKER_TEMPLATE", "value": template}]
    seen = {"containerStatuses": list(containers), "conditions": ready, "startTime": ago(50), **status}
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "worker", "env": env}]}, "status": seen}


def waiting(reason: str, message: str = "", restarts: int = 0, last: dict[str, Any] | None = None) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "worker", "restartCount": restarts, "state": state, "lastState": {"terminated": last} if last else {}}


def running(since: float, *, ready: bool, restarts: int = 0, last: dict[str, Any] | None = None) -> dict[str, Any]:
    before = {"terminated": last} if last else {}
    state = {"running": {"startedAt": ago(since)}}
    return {"name": "worker", "restartCount": restarts, "ready": ready, "state": state, "lastState": before}


def crash(seconds: float = 10, code: int = 1, message: str = "") -> dict[str, Any]:
    return {"exitCode": code, "reason": "Error", "finishedAt": ago(seconds), "message": message}


WELL = pod("a", running(50, ready=True), ready_for=40)
LOOPING = pod("b", waiting("CrashLoopBackOff", "back-off 40s", 4, crash(message="Traceback\nKeyError: 'MODEL'\n")))
NO_IMAGE = pod("c", waiting("ImagePullBackOff", "Back-off pulling image shop:2"))


@pytest.mark.parametrize(
    ("seen", "failure"),
    [
        pytest.param(WELL, "", id="well"),
        pytest.param(LOOPING, "CrashLoopBackOff, 4 restarts, exit code 1 (Error)", id="a crash loop"),
        pytest.param(NO_IMAGE, "ImagePullBackOff, Back-off pulling image shop:2", id="no image"),
        pytest.param(pod("x", waiting("ErrImagePull")), "", id="the first pull failed: the kubelet tries again"),
        pytest.param(pod("x", waiting("ContainerCreating")), "", id="on its way"),
        pytest.param(pod("x", waiting("ContainerCreating"), startTime=ago(701)), "no container runs within 700s", id="too long"),
        pytest.param(pod("x", running(1, ready=True, restarts=2, last=crash())), "2 restarts, exit code 1", id="between crashes"),
        pytest.param(pod("x", running(1, ready=True, restarts=1, last=crash())), "", id="one mishap"),
        pytest.param(pod("x", running(1, ready=True, restarts=2, last=crash(code=0))), "", id="it ended by itself"),
        pytest.param(pod("x", running(900, ready=True, restarts=9, last=crash(900))), "", id="crashes of long ago"),
        pytest.param(pod("x", running(100 + READY_MARGIN, ready=False)), "", id="it may take that long"),
        pytest.param(pod("x", running(101 + READY_MARGIN, ready=False)), "not ready within 160s", id="it does not get ready"),
        pytest.param(pod("x", conditions=[{"type": "PodScheduled", "status": "False"}], startTime=None), "", id="no node takes it"),
        pytest.param(pod("x", waiting("CrashLoopBackOff"), phase="Failed"), "", id="evicted: it is replaced"),
    ],
)
def test_a_pod_of_the_new_version_fails(seen: dict[str, Any], failure: str) -> None:
    trial = judge(WANTED, STAMP, [seen], NOW)
    assert bool(trial.failing) is bool(failure)
    assert failure in trial.example


def test_only_pods_of_the_new_version_are_on_trial() -> None:
    old = pod("old", waiting("CrashLoopBackOff"), template="another")
    leaving = {**LOOPING, "metadata": {"name": "d", "deletionTimestamp": ago(1)}}
    assert judge(WANTED, STAMP, [old, leaving, NO_IMAGE, LOOPING, WELL], NOW) == Trial(
        3, 2, "pod b: CrashLoopBackOff, 4 restarts, exit code 1 (Error)", "Traceback\nKeyError: 'MODEL'"
    )
    assert judge(WANTED, STAMP, [old], NOW) == Trial()


def test_the_last_words_are_the_end_without_passwords() -> None:
    text = "x" * 1000 + " cannot connect to redis://shop:hunter2@cache:6379/0"
    trial = judge(WANTED, STAMP, [pod("b", waiting("CrashLoopBackOff", "", 3, crash(message=text)))], NOW)
    assert trial.last_words.endswith(" cannot connect to redis://shop:***@cache:6379/0")
    assert len(trial.last_words) == LAST_WORDS


FAILING, HALF, FEW, WORKING, PROVEN = Trial(2, 2), Trial(2, 1), Trial(3, 1), Trial(2), Trial(2, proven=True)


@pytest.mark.parametrize(
    ("trial", "old_pods", "paused", "expected"),
    [
        pytest.param(FAILING, 3, False, True, id="all fail: pause"),
        pytest.param(HALF, 3, False, True, id="half of them: pause"),
        pytest.param(FEW, 3, False, False, id="fewer: a bad node, perhaps"),
        pytest.param(Trial(), 3, False, False, id="no new pod yet"),
        pytest.param(FAILING, 0, False, False, id="no old pod is left to protect"),
        pytest.param(FAILING, 0, True, False, id="none is left any more: go on"),
        pytest.param(WORKING, 3, True, True, id="between two crashes: stay"),
        pytest.param(Trial(), 3, True, True, id="scaled in to none of the new: stay"),
        pytest.param(PROVEN, 3, True, False, id="ready for a while: go on"),
    ],
)
def test_whether_it_is_paused(trial: Trial, old_pods: int, paused: bool, expected: bool) -> None:
    assert held(trial, old_pods=old_pods, paused=paused) is expected


def test_proof_takes_time() -> None:
    for seconds, proven in ((PROOF_SECONDS - 1, False), (PROOF_SECONDS, True)):
        ready = pod("a", running(seconds, ready=True), ready_for=seconds)
        assert judge(WANTED, STAMP, [ready], NOW).proven is proven
    assert not judge(WANTED, STAMP, [ready, pod("b", running(1, ready=False))], NOW).proven
    assert "no new pod fails now, of 2" in figures(WORKING)


def applied(observed: Observed) -> dict[str, Any] | None:
    actions = plan(observed).actions
    return actions[0].manifest if actions and isinstance(actions[0], Apply) else None


def test_the_plan_pauses_and_ends_the_pause() -> None:
    seen = found(WANTED, replicas=4, ready=4).manifest
    rolling = live_of({**seen, "status": {"replicas": 5, "readyReplicas": 4, "updatedReplicas": 1}})
    observed = Observed(QUEUE, OWNER, Connection("redis://r"), live=rolling, trial=FAILING)
    paused = applied(observed)
    assert paused is not None
    assert paused["spec"]["paused"] is True
    live = live_of({**rolling.manifest, "metadata": {**paused["metadata"], "uid": "u"}, "spec": {**paused["spec"], "replicas": 4}})
    assert live.paused

    def next_step(**changed: Any) -> Any:
        values = {"queue": QUEUE, "trial": WORKING, "live": live, **changed}
        step = applied(Observed(owner=OWNER, connection=Connection("redis://r"), **values))
        return step["spec"]["paused"] if step else None

    assert next_step() is None, "it stays"
    assert next_step(queue=task_queue(worker={**WORKER, "image": "shop:3"})) is False, "another version ends it"
    assert next_step(trial=PROVEN) is False
    assert next_step(may_pause=False) is False, "the annotation"
    none_left = live_of({**live.manifest, "status": {"replicas": 1, "updatedReplicas": 1}})
    assert next_step(live=none_left, trial=FAILING) is False
    by_hand = {**live.manifest, "metadata": {**WANTED["metadata"], "uid": "u"}}
    assert next_step(live=live_of(by_hand)) is False, "a pause by hand is not ours"


async def test_a_version_that_crashes_is_paused_and_the_next_one_ends_that(cluster: Cluster) -> None:
    name = unique("emails")

    async def shows(**status: int) -> None:
        await cluster.patch("deployments", f"{name}-worker", {"status": status}, "/status")

    async def paused(wanted: bool) -> dict[str, Any]:
        async def asked_for() -> Any:
            found = await cluster.get("deployments", f"{name}-worker")
            return found if found["spec"].get("paused", False) is wanted else None

        return dict(await until(asked_for))

    await cluster.apply(name, scaling={"minReplicas": 2}, worker=WORKER)
    first = await cluster.workers(name)
    await shows(replicas=2, readyReplicas=2, updatedReplicas=2, observedGeneration=first["metadata"]["generation"])
    await cluster.condition(name, "Ready", "True", "WorkersReady")
    await cluster.apply(name, scaling={"minReplicas": 2}, worker={**WORKER, "image": "shop:broken"})

    async def changed() -> Any:
        found = await cluster.workers(name)
        return found if found["spec"]["template"] != first["spec"]["template"] else None

    second = await until(changed)
    template = second["spec"]["template"]
    body = {"metadata": {"name": f"{name}-new", "labels": template["metadata"]["labels"]}, "spec": template["spec"]}
    await cluster.create("pods", body)
    last = {"exitCode": 3, "reason": "Error", "finishedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    looping = waiting("CrashLoopBackOff", "", 4, {**last, "message": "no module named shop", "startedAt": last["finishedAt"]})
    looping |= {"image": "shop:broken", "imageID": "", "ready": False}
    await cluster.patch("pods", f"{name}-new", {"status": {"containerStatuses": [looping]}}, "/status")
    await shows(replicas=3, readyReplicas=2, updatedReplicas=1, observedGeneration=second["metadata"]["generation"])

    await paused(True)
    ready = await cluster.condition(name, "Ready", "False", "RolloutPaused")
    for words in ("1 of 1 new pods fails", "4 restarts, exit code 3", "2 of the version before", "no module named shop"):
        assert words in ready["message"]
    await cluster.condition(name, "RolloutPaused", "True", "RolloutPaused")

    await cluster.apply(name, scaling={"minReplicas": 3}, worker={**WORKER, "image": "shop:broken"})
    await cluster.replicas(name, 3)  # a scale-out is not held
    await paused(True)
    await cluster.patch("taskqueues", name, {"metadata": {"annotations": {"stoker.dev/pause-rollouts": "false"}}})
    await paused(False)
    await cluster.patch("taskqueues", name, {"metadata": {"annotations": {"stoker.dev/pause-rollouts": None}}})
    await paused(True)
    await cluster.apply(name, scaling={"minReplicas": 3}, worker={**WORKER, "image": "shop:3"})
    mended = await paused(False)
    assert mended["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:3"
