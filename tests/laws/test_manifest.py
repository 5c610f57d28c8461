"""The TaskQueue manifest: defaults, and for every mistake one message that names the field."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.autoscale.demand import policy_of
from stoker.errors import Invalid
from stoker.local.manifest_file import load
from stoker.manifest.task_queue import TaskQueue, parse
from stoker.rules.retry import Jitter, Retry


def manifest(spec: object, **metadata: object) -> dict[str, Any]:
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "TaskQueue",
        "metadata": {"name": "emails", **metadata},
        "spec": spec,
    }


def with_worker(**rest: object) -> dict[str, Any]:
    return manifest({"worker": {"app": "shop.tasks:app"}, **rest})


def variable(source: object) -> dict[str, Any]:
    return manifest({"worker": {"env": [{"name": "A", "valueFrom": source}]}})


SECRET = ["is not the name of a Secret"]


def test_the_smallest_manifest_has_the_documented_defaults() -> None:
    queue = parse(with_worker())
    spec = queue.spec
    assert (queue.name, queue.namespace, queue.queue) == ("emails", "", "emails")
    assert (spec.worker.concurrency, spec.worker.task_timeout, spec.worker.drain_timeout) == (16, 600, 660)
    assert spec.retry.policy() == Retry(3, 5, 2, 3600, Jitter.FULL)
    assert (spec.lease.duration, spec.lease.max_lost) == (30, 3)
    assert (spec.retention.succeeded.age, spec.retention.dead.age) == (3600, 7 * 86400)
    assert (spec.scaling.min_replicas, spec.scaling.max_replicas, spec.scaling.idle_after) == (0, 20, 20)
    assert (spec.replicas, spec.suspend, spec.redis.url_secret_ref) == (None, False, None)
    assert (spec.scaling.backlog_per_replica, spec.scaling.slo.max_wait, spec.scaling.slo.objective_percent) == (None, 30, 99)


def test_the_queue_may_have_a_name_of_its_own() -> None:
    assert parse(with_worker(queue={"name": "mail.outgoing"})).queue == "mail.outgoing"


def test_the_namespace_is_the_resources() -> None:
    queue = parse(manifest({"worker": {}}, namespace="shop"))
    assert (queue.namespace, queue.key_namespace) == ("shop", "shop")


def test_in_a_redis_of_its_own_the_keys_may_have_another_namespace() -> None:
    redis = {"urlSecretRef": {"name": "cache"}, "namespace": "legacy"}
    assert parse(manifest({"worker": {}, "redis": redis}, namespace="shop")).key_namespace == "legacy"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(None, ["TaskQueue", "apiVersion stoker.dev/v1alpha1"], id="nothing"),
        pytest.param([], ["TaskQueue"], id="a list"),
        pytest.param({"kind": "Deployment"}, ["not a TaskQueue"], id="another kind"),
        pytest.param({**with_worker(), "apiVersion": "stoker.dev/v2"}, ["apiVersion", "stoker.dev/v2"], id="another version"),
        pytest.param({**with_worker(), "metadata": {}}, ["metadata.name"], id="no name"),
        pytest.param({**with_worker(), "metadata": "emails"}, ["metadata.name"], id="metadata is a text"),
        pytest.param({**with_worker(), "metadata": {"name": 7}}, ["metadata.name"], id="the name is a number"),
        pytest.param({**with_worker(), "metadata": {"name": "No Name"}}, ["No Name"], id="a name no cluster would take"),
        pytest.param(manifest({"worker": {}}, namespace=7), ["metadata.namespace"], id="the namespace is a number"),
        pytest.param(manifest(None), ["emails", "spec", "object"], id="no spec"),
        pytest.param(manifest({}), ["worker"], id="no worker"),
        pytest.param(with_worker(sacling={}), ["sacling"], id="a field nobody knows"),
        pytest.param(manifest({"worker": {"max_retries": 1}}), ["max_retries", "spec.worker"], id="snake_case is not our case"),
        pytest.param(manifest({"worker": {"concurrency": "8"}}), ["spec.worker.concurrency", "int"], id="a number in quotes"),
        pytest.param(manifest({"worker": {"concurrency": 0}}), ["spec.worker.concurrency", ">= 1"], id="no slots"),
        pytest.param(manifest({"worker": {"concurrency": 1001}}), ["spec.worker.concurrency", "<= 1000"], id="too many slots"),
        pytest.param(manifest({"worker": {"taskTimeout": "5"}}), ["spec.worker.taskTimeout", "30s"], id="a duration without unit"),
        pytest.param(manifest({"worker": {"taskTimeout": 5}}), ["spec.worker.taskTimeout", "30s"], id="a duration as a number"),
        pytest.param(manifest({"worker": {"taskTimeout": "$5"}}), ["'$5'", "spec.worker.taskTimeout"], id="a price for a duration"),
        pytest.param(manifest({"worker": {"taskTimeout": "0s"}}), ["taskTimeout", "spec.worker"], id="no time for any task"),
        pytest.param(
            manifest({"worker": {"drainTimeout": "1m"}}), ["drainTimeout", "taskTimeout"], id="a drain shorter than a task"
        ),
        pytest.param(
            manifest({"worker": {"strategy": {"maxSurge": 0}}}), ["maxUnavailable", "spec.worker.strategy"], id="no room to roll"
        ),
        pytest.param(
            manifest({"worker": {"strategy": {"maxSurge": "0%", "maxUnavailable": "0%"}}}), ["maxUnavailable"], id="no percent"
        ),
        pytest.param(manifest({"worker": {"strategy": {"maxUnavailable": "101%"}}}), ["maxUnavailable"], id="more than all"),
        pytest.param(manifest({"worker": {"strategy": {"maxSurge": "many"}}}), ["maxSurge", "25%"], id="a surge in words"),
        pytest.param(manifest({"worker": {"strategy": {"maxSurge": -1}}}), ["maxSurge"], id="a surge below nothing"),
        pytest.param(manifest({"worker": {"template": []}}), ["spec.worker.template"], id="a list for a template"),
        pytest.param(manifest({"worker": {"startupTimeout": "0s"}}), ["startupTimeout"], id="no time to start"),
        pytest.param(manifest({"worker": {"env": [{"value": "x"}]}}), ["name", "spec.worker"], id="a variable without a name"),
        pytest.param(with_worker(replicas=-1), ["spec.replicas", ">= 0"], id="less than nobody"),
        pytest.param(with_worker(retry={"multiplier": 2}), ["spec.retry.multiplier", "string like '2'"], id="a factor as a number"),
        pytest.param(with_worker(retry={"multiplier": "0.5"}), ["spec.retry.multiplier", "1..100"], id="waits that get shorter"),
        pytest.param(with_worker(retry={"multiplier": "nan"}), ["spec.retry.multiplier", "1..100"], id="a factor that is none"),
        pytest.param(with_worker(retry={"multiplier": "two"}), ["spec.retry.multiplier"], id="a factor in words"),
        pytest.param(with_worker(retry={"jitter": "full"}), ["spec.retry.jitter", "full"], id="an enum in the wrong case"),
        pytest.param(with_worker(lease={"duration": "500ms"}), ["spec.lease", "shorter than 1s"], id="a lease too short"),
        pytest.param(with_worker(lease={"maxLost": 0}), ["spec.lease.maxLost", ">= 1"], id="lost never"),
        pytest.param(with_worker(retention={"dead": {"count": 1}}), ["spec.retention.dead", "age"], id="a retention without age"),
        pytest.param(with_worker(scaling={"maxReplicas": 0}), ["spec.scaling", "maxReplicas"], id="nobody at most"),
        pytest.param(with_worker(scaling={"minReplicas": 3, "maxReplicas": 2}), ["spec.scaling", "3", "2"], id="least above most"),
        pytest.param(with_worker(scaling={"backlogPerReplica": 0}), ["spec.scaling.backlogPerReplica"], id="no backlog a replica"),
        pytest.param(with_worker(scaling={"paused": True}), ["spec.scaling.paused"], id="a boolean for an enum"),
        pytest.param(with_worker(redis={"urlSecretRef": {}}), ["spec.redis.urlSecretRef", "name"], id="a secret without name"),
        pytest.param(with_worker(redis={"urlSecretRef": {"name": "../../x/secrets/y"}}), SECRET, id="a path for a secret"),
        pytest.param(with_worker(redis={"urlSecretRef": {"name": "redis\n"}}), SECRET, id="a line break in a secret's name"),
        pytest.param(with_worker(redis={"urlSecretRef": {"name": ".."}}), SECRET, id="dots for a secret"),
        pytest.param(with_worker(redis={"urlSecretRef": {"name": "a", "key": "a/b"}}), ["key"], id="a path for a secret's key"),
        pytest.param(variable({"secretKeyRef": {"name": "../x", "key": "k"}}), [*SECRET, "env[0]"], id="a path in a variable"),
        pytest.param(variable({"secretKeyRef": {"key": "k"}}), [*SECRET, "env[0]"], id="a variable of no secret"),
        pytest.param(variable({"secretKeyRef": "x"}), ["env[0].valueFrom.secretKeyRef", "object"], id="a text for a reference"),
        pytest.param(variable("x"), ["env[0].valueFrom", "object"], id="a text for a source"),
        pytest.param(manifest({"worker": {"envFrom": [{"secretRef": {"name": "a/b"}}]}}), [*SECRET, "envFrom[0]"], id="in envFrom"),
        pytest.param(
            with_worker(redis={"namespace": "mail"}), ["spec.redis", "urlSecretRef"], id="a namespace in the shared Redis"
        ),
        pytest.param(
            with_worker(redis={"urlSecretRef": {"name": "r"}, "namespace": "a:b"}),
            ["spec.redis", "'a:b'"],
            id="a colon in a namespace",
        ),
        pytest.param(with_worker(redis={"tls": {"caSecretRef": {"name": "ca"}}}), ["spec.redis", "urlSecretRef"], id="tls, no URL"),
        pytest.param(
            with_worker(redis={"urlSecretRef": {"name": "r"}, "tls": {"caSecretRef": {"name": "../x"}}}),
            SECRET,
            id="a path",
        ),
        pytest.param(
            with_worker(observability={"tracing": {"endpoint": "collector:4317"}}),
            ["spec.observability.tracing.endpoint"],
            id="an endpoint that is no URL",
        ),
        pytest.param(with_worker(queue={"name": "Emails!"}), ["Emails!", "lower-case"], id="a queue name in capitals"),
        pytest.param(with_worker(worker=[]), ["spec.worker", "object"], id="a list for an object"),
    ],
)
def test_a_mistake_is_named(document: Any, words: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        parse(document)
    for word in words:
        assert word in str(refused.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = {
    "worker": [
        *("image", "app", "concurrency", "taskTimeout", "drainTimeout", "startupTimeout"),
        *("env", "envFrom", "resources", "userIds", "strategy", "template"),
    ],
    "queue": ["name"],
    "redis": ["urlSecretRef"],
    "retry": ["maxRetries", "initialDelay", "multiplier", "maxDelay", "jitter"],
    "lease": ["duration", "maxLost"],
    "retention": ["succeeded", "dead"],
    "scaling": ["minReplicas", "maxReplicas", "backlogPerReplica", "idleAfter", "paused", "scaleDown"],
}
SOURCE = {"name": "A", "valueFrom": 1, "secretRef": []}
likely_values = json_values | st.sampled_from(
    ["1s", "0s", "5h", "2", "None", "All", "Full", "a", 1, 2, [{}], {"age": "1s"}, [SOURCE]]
)
nearly_specs = st.fixed_dictionaries(
    {"worker": st.dictionaries(st.sampled_from(FIELDS["worker"]), likely_values, max_size=3) | json_values},
    optional={
        part: st.dictionaries(st.sampled_from(names), likely_values, max_size=3)
        for part, names in FIELDS.items()
        if part != "worker"
    }
    | {"suspend": likely_values, "replicas": likely_values},
)


def parsed_or_refused(document: Any) -> TaskQueue | None:
    try:
        return parse(document)
    except Invalid:
        return None


@given(json_values)
def test_any_document_is_parsed_or_refused(document: Any) -> None:
    parsed_or_refused(document)


@given(nearly_specs, json_values)
def test_any_spec_is_parsed_or_refused(spec: Any, namespace: Any) -> None:
    if queue := parsed_or_refused(manifest(spec, namespace=namespace)):
        assert queue.spec.worker.drain_timeout >= queue.spec.worker.task_timeout > 0
        assert queue.spec.scaling.max_replicas >= queue.spec.scaling.min_replicas
        assert isinstance(queue.namespace, str)


GOOD = """
apiVersion: stoker.dev/v1alpha1
kind: TaskQueue
metadata: {name: emails}
spec: {worker: {app: "shop.tasks:app"}}
"""


def test_a_file_may_hold_other_kinds_beside(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(f"kind: Secret\n---\n{GOOD}---\n---\n{GOOD.replace('emails', 'sms')}")
    assert [queue.name for queue in load(file)] == ["emails", "sms"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "contains no TaskQueue", id="an empty file"),
        pytest.param(b"kind: Secret", "contains no TaskQueue", id="no TaskQueue in it"),
        pytest.param(b"a: [", "not YAML", id="a bracket that does not close"),
        pytest.param(b"\xff\xfe\x00", "not YAML", id="no text at all"),
        pytest.param(b"when: 2026-13-45", "not YAML", id="a date that never was"),
        pytest.param(b"x: !!python/object/apply:os.getcwd []", "not YAML", id="a tag that would run code"),
        pytest.param(b"[" * 5000, "not YAML", id="nested too deep"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "queue.yaml"
    file.write_bytes(content)
    with pytest.raises(Invalid, match=words) as refused:
        load(file)
    assert str(file) in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"cannot read .*missing.yaml"):
        load(tmp_path / "missing.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot read"):
        load(tmp_path)


def test_a_replica_has_the_slots_of_all_its_processes() -> None:
    spec = parse(manifest({"worker": {"processes": 3, "concurrency": 4}})).spec
    assert policy_of(spec).slots == 12
