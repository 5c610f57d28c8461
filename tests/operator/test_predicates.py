"""Which events are worth a reconcile."""

import copy
from typing import Any

import pytest

from stoker_operator.state.ref import Object, Ref, labelled, ours
from stoker_operator.watch.predicates import Changes, Content, deployment_content, differs, task_queue_content
from tests.operator.observed import manifest

TASK_QUEUE: Object = {
    "apiVersion": "stoker.dev/v1alpha1",
    "kind": "TaskQueue",
    "metadata": {
        "name": "emails",
        "uid": "uid-1",
        "generation": 1,
        "resourceVersion": "10",
        "labels": {"team": "shop"},
        "annotations": {},
        "managedFields": [{"manager": "kubectl"}],
    },
    "spec": {"worker": {"image": "shop:1"}},
    "status": {"replicas": 1},
}
DEPLOYMENT: Object = {
    **manifest(),
    "metadata": {**manifest()["metadata"], "uid": "uid-2", "resourceVersion": "10", "managedFields": []},
    "status": {"observedGeneration": 1, "replicas": 2, "readyReplicas": 1, "conditions": []},
}


@pytest.mark.parametrize(
    ("label", "ref"),
    [("emails", Ref("shop", "emails")), ("", None), ("../x", None), (None, None), ("Emails", None)],
)
def test_a_label_that_is_no_name_names_no_taskqueue(label: str | None, ref: Ref | None) -> None:
    """Anybody may put our label on anything."""
    assert labelled({"metadata": {"namespace": "shop", "labels": {"stoker.dev/taskqueue": label}}}) == ref
    assert labelled({"metadata": {"namespace": "shop"}}) is None


def test_only_what_a_taskqueue_controls_is_ours() -> None:
    assert ours(DEPLOYMENT)
    assert not ours(but(DEPLOYMENT, "metadata/ownerReferences", []))
    assert not ours(but(DEPLOYMENT, "metadata/ownerReferences", [{"kind": "Rollout", "controller": True}]))


def but(found: Object, path: str, value: Any) -> Object:
    changed = copy.deepcopy(found)
    *parents, last = path.split("/")
    part = changed
    for key in parents:
        part = part[int(key)] if isinstance(part, list) else part.setdefault(key, {})
    part[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "counts"),
    [
        pytest.param("spec/worker/image", "shop:2", True, id="the spec"),
        pytest.param("metadata/generation", 2, True, id="the generation"),
        pytest.param("metadata/labels/team", "mail", True, id="a label"),
        pytest.param("metadata/annotations/note", "x", True, id="an annotation"),
        pytest.param("metadata/deletionTimestamp", "2026-01-01T00:00:00Z", True, id="it is being deleted"),
        pytest.param("metadata/finalizers", ["x"], True, id="a finalizer"),
        pytest.param("metadata/uid", "uid-9", True, id="created again under the same name"),
        pytest.param("status", {"replicas": 2}, False, id="the operator's own status write"),
        pytest.param("metadata/resourceVersion", "11", False, id="any write at all"),
        pytest.param("metadata/managedFields", [{"manager": "stoker-operator"}], False, id="who wrote it"),
    ],
)
def test_a_taskqueue(path: str, value: Any, counts: bool) -> None:
    assert differs(task_queue_content, TASK_QUEUE, but(TASK_QUEUE, path, value)) is counts


QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
PROGRESSING = {"type": "Progressing", "status": "True", "lastUpdateTime": "2026-01-01T00:00:00Z"}
POD = "spec/template/spec"


@pytest.mark.parametrize(
    ("path", "value", "counts"),
    [
        pytest.param(f"{POD}/containers/0/image", "evil:1", True, id="drift of the template"),
        pytest.param("spec/replicas", 7, True, id="scaled by someone"),
        pytest.param("spec/paused", True, True, id="the rollout is paused"),
        pytest.param("metadata/ownerReferences", [], True, id="the owner was removed"),
        pytest.param("metadata/labels/stoker.dev~1taskqueue", "x", True, id="a label"),
        pytest.param("metadata/annotations", {}, True, id="our annotation was removed"),
        pytest.param("metadata/deletionTimestamp", "2026-01-01T00:00:00Z", True, id="it is being deleted"),
        pytest.param("status/replicas", 3, True, id="another pod"),
        pytest.param("status/readyReplicas", 2, True, id="another ready pod"),
        pytest.param("status/terminatingReplicas", 1, True, id="a pod that drains"),
        pytest.param("status/conditions", [QUOTA], True, id="pods cannot be created"),
        pytest.param("status/conditions", [PROGRESSING], False, id="the rollout's heartbeat"),
        pytest.param("status/unavailableReplicas", 1, False, id="a status field that nothing here reads"),
        pytest.param("status/observedGeneration", 2, True, id="the controller has seen it"),
        pytest.param("metadata/annotations/deployment.kubernetes.io~1revision", "2", False, id="the controller's revision"),
        pytest.param("metadata/resourceVersion", "11", False, id="any write at all"),
        pytest.param("metadata/managedFields", [{"manager": "x"}], False, id="who wrote it"),
    ],
)
def test_a_deployment(path: str, value: Any, counts: bool) -> None:
    *parents, last = path.split("/")
    changed = but(DEPLOYMENT, "/".join(parents), {**part(parents), last.replace("~1", "/"): value}) if "~1" in last else None
    assert differs(deployment_content, DEPLOYMENT, changed or but(DEPLOYMENT, path, value)) is counts


def part(path: list[str]) -> dict[str, Any]:
    found: Any = DEPLOYMENT
    for key in path:
        found = found[key]
    return dict(found)


@pytest.mark.parametrize("content", [task_queue_content, deployment_content])
def test_a_count_of_zero_may_be_left_out(content: Content) -> None:
    """As the API server does, and as objects without any annotation or status have it."""
    bare = {"metadata": {"name": "x", "uid": "u"}}
    assert not differs(content, bare, {**bare, "status": {"replicas": 0}})


def test_an_event_is_new_once() -> None:
    changes = Changes(task_queue_content)
    written = but(TASK_QUEUE, "status", {"replicas": 9})
    edited = but(TASK_QUEUE, "spec/worker/image", "shop:2")
    seen = [changes.new(each, deleted=False) for each in (TASK_QUEUE, TASK_QUEUE, written, edited, written)]
    assert seen == [True, False, False, True, True]


def test_a_deletion_is_always_new_and_so_is_what_comes_after_it() -> None:
    changes = Changes(task_queue_content)
    assert changes.new(TASK_QUEUE, deleted=False)
    assert changes.new(TASK_QUEUE, deleted=True)
    assert changes.new(TASK_QUEUE, deleted=True)
    assert changes.new(TASK_QUEUE, deleted=False)


def test_what_was_dropped_from_memory_is_new_again() -> None:
    changes = Changes(task_queue_content, remembered=2)
    first, *others = [but(TASK_QUEUE, "metadata/uid", f"uid-{at}") for at in range(3)]
    assert all(changes.new(each, deleted=False) for each in (first, *others))
    assert not changes.new(others[-1], deleted=False)
    assert changes.new(first, deleted=False)
