"""The last spec that was applied, as the workers' Deployment remembers it."""

import json
from typing import Any

import pytest

from stoker_operator.reconcile.applied import APPLIED, annotation, last_applied
from stoker_operator.state.ref import Object
from tests.operator.observed import REF, task_queue

SPEC: dict[str, Any] = {
    "worker": {
        "image": "shop:1",
        "app": "shop:app",
        "concurrency": 4,
        "processes": 2,
        "env": [{"name": "TOKEN", "value": "hunter2"}],
    },
    "queue": {"name": "mails", "partitions": 2},
    "redis": {"urlSecretRef": {"name": "redis", "key": "url"}},
    "scaling": {"minReplicas": 1, "maxReplicas": 7, "idleAfter": "1m"},
    "rateLimit": {"perSecond": 5, "burst": 9},
    "lease": {"duration": "10s", "maxLost": 2},
    "schedules": [{"name": "nightly", "cron": "0 3 * * *", "task": "sweep"}],
    "suspend": False,
}


def deployment(text: Any) -> Object:
    return {"metadata": {"annotations": {APPLIED: text}}}


def test_what_scaling_needs_is_kept_and_nothing_of_the_environment() -> None:
    text = annotation({"metadata": {"generation": 3}, "spec": SPEC})
    applied = last_applied(deployment(text), REF)
    assert applied is not None
    kept, whole = applied.manifest, task_queue(**SPEC)
    assert applied.generation == 3
    for field in ("queue", "redis", "scaling", "rate_limit", "lease"):
        assert getattr(kept.spec, field) == getattr(whole.spec, field)
    assert (kept.queue, kept.partitions, kept.spec.worker.slots) == (whole.queue, whole.partitions, whole.spec.worker.slots)
    assert kept.spec.scaling == whole.spec.scaling
    assert "hunter2" not in text
    assert len(text) < 1000


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "null", "[]", "7", '{"generation": 1}', '{"generation": "x", "spec": {"worker": {}}}'),
        json.dumps({"generation": 1, "spec": {"worker": {}, "redis": {"urlSecretRef": {"name": "../x"}}}}),
        json.dumps({"generation": 1, "spec": {"worker": {}, "unknown": 1}}),
        "[" * 100_000,
    ],
)
def test_what_others_wrote_there_is_no_spec(text: str) -> None:
    assert last_applied(deployment(text), REF) is None
    assert last_applied({"metadata": {}}, REF) is None
