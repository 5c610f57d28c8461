"""The TaskQueue's schema in the cluster and the manifest's types on a laptop are one and the same."""

import json
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import Invalid
from stoker.manifest import task_queue as taskqueue
from stoker.manifest.task_queue import TaskQueueSpec, parse
from stoker.rules.units import parse_duration
from tests.chart.rendering import Object, defaulted
from tests.taskqueue_schema import crd, schema, strict

SPEC = schema()["properties"]["spec"]
STATUS = schema()["properties"]["status"]
SMALLEST = {"worker": {"image": "registry.example.org/shop:1.4"}}


def scheduled(**fields: Any) -> Object:
    return {**SMALLEST, "schedules": [{"name": "nightly", "cron": "0 3 * * *", "task": "report", **fields}]}


def of_secrets(**worker: Any) -> Object:
    return {"worker": {"image": "a", **worker}}


def manifest(spec: Object) -> Object:
    return {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": "emails"}, "spec": spec}


def struct_of(hint: Any) -> type[msgspec.Struct] | None:
    """The struct that a type hint holds, also as `Struct | None`."""
    candidates = [hint, *get_args(hint), *(inner for part in get_args(hint) for inner in get_args(part))]
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, msgspec.Struct)), None)


def parts(struct: type[msgspec.Struct], node: Object, path: str = "spec") -> Iterator[tuple[str, type[msgspec.Struct], Object]]:
    """Every part of the spec: its path, its type here, its schema there."""
    yield path, struct, node
    hints = get_type_hints(struct)
    for field in msgspec.structs.fields(struct):
        if inner := struct_of(hints[field.name]):
            child = node["properties"].get(field.encode_name, {})
            yield from parts(inner, child.get("items", child), f"{path}.{field.encode_name}")


PARTS = [pytest.param(struct, node, id=path) for path, struct, node in parts(TaskQueueSpec, SPEC)]


def leaves(node: Object, path: str) -> Iterator[tuple[str, Object]]:
    """Every field of a schema, with its path."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from leaves(child, f"{path}.{name}")
    if values := node.get("additionalProperties"):
        yield f"{path}.*", values
    if "items" in node:
        yield f"{path}[]", node["items"]
        yield from leaves(node["items"], f"{path}[]")


FIELDS = [*leaves(SPEC, "spec"), *leaves(STATUS, "status")]


@pytest.mark.parametrize(("struct", "node"), PARTS)
def test_the_fields_are_the_same(struct: type[msgspec.Struct], node: Object):
    assert set(node["properties"]) == set(struct.__struct_encode_fields__)


@pytest.mark.parametrize(("struct", "node"), PARTS)
def test_the_same_fields_are_required(struct: type[msgspec.Struct], node: Object):
    wanted = {field.encode_name for field in msgspec.structs.fields(struct) if field.required}
    assert set(node.get("required", [])) == wanted


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(SMALLEST, id="the smallest"),
        pytest.param({**SMALLEST, "redis": {"urlSecretRef": {"name": "redis"}}}, id="a secret's key"),
        pytest.param({**SMALLEST, "retention": {"dead": {"age": "1d"}}}, id="a count that is left out"),
        pytest.param({**SMALLEST, "scaling": {"maxReplicas": 5}, "retry": {"maxRetries": 1}}, id="parts with one field"),
        pytest.param(scheduled(), id="a schedule"),
        pytest.param(scheduled(retry={"maxRetries": 1}), id="a schedule with its own retries"),
    ],
)
def test_what_is_left_out_means_the_same(spec: Object):
    """An API server fills in the defaults; `stoker up` reads what the user wrote. Both end at one value."""
    stored = defaulted(spec, SPEC)
    assert stored != spec
    assert parse(manifest(stored)) == parse(manifest(spec))


@pytest.mark.parametrize(("struct", "node"), PARTS)
def test_every_default_is_written_out(struct: type[msgspec.Struct], node: Object):
    """So that `kubectl get -o yaml` and `kubectl explain` show it; None is the one default that a schema leaves out."""
    for field in msgspec.structs.fields(struct):
        has_default = not field.required and field.default is not None
        optional_part = field.encode_name == "redis"  # all of it is optional: nothing to show
        assert ("default" in node["properties"][field.encode_name]) == (has_default and not optional_part), field.encode_name


@pytest.mark.parametrize(
    ("spec", "at"),
    [
        pytest.param({"worker": {"image": "a", "concurrency": 0}}, "concurrency", id="no slots"),
        pytest.param({"worker": {"image": "a", "concurrency": 1001}}, "concurrency", id="too many slots"),
        pytest.param({"worker": {"image": "a", "concurrency": "4"}}, "concurrency", id="a number in quotes"),
        pytest.param({"worker": {"image": "a", "taskTimeout": 30}}, "taskTimeout", id="a duration without a unit"),
        pytest.param({"worker": {"image": "a", "taskTimeout": "30 s"}}, "taskTimeout", id="a duration with a blank"),
        pytest.param({"worker": {"image": "a", "tasktimeout": "30s"}}, "tasktimeout", id="a misspelled field"),
        pytest.param({"worker": {"image": "a", "resources": []}}, "resources", id="resources as a list"),
        pytest.param(of_secrets(labels={"team": "two words"}), "labels", id="a label's value with a blank"),
        pytest.param(of_secrets(labels={"team": "a" * 64}), "labels", id="a label's value too long"),
        pytest.param(of_secrets(labels={"team": 7}), "labels", id="a label's value that is a number"),
        pytest.param(of_secrets(labels={f"team-{at}": "a" for at in range(33)}), "labels", id="too many labels"),
        pytest.param(of_secrets(annotations={"note": "a" * 4097}), "annotations", id="an annotation too long"),
        pytest.param({**SMALLEST, "replicas": -1}, "replicas", id="fewer than no replicas"),
        pytest.param({**SMALLEST, "replicas": 1001}, "replicas", id="too many replicas"),
        pytest.param({**SMALLEST, "suspend": "yes"}, "suspend", id="yes is not true"),
        pytest.param({**SMALLEST, "retry": {"multiplier": 2}}, "multiplier", id="a multiplier without quotes"),
        pytest.param({**SMALLEST, "retry": {"multiplier": "0.5"}}, "multiplier", id="waits that shrink"),
        pytest.param({**SMALLEST, "retry": {"multiplier": "101"}}, "multiplier", id="waits that explode"),
        pytest.param({**SMALLEST, "retry": {"multiplier": "nan"}}, "multiplier", id="not a number"),
        pytest.param({**SMALLEST, "retry": {"jitter": "Half"}}, "jitter", id="an unknown jitter"),
        pytest.param({**SMALLEST, "retry": {"maxRetries": 1001}}, "maxRetries", id="too many retries"),
        pytest.param({**SMALLEST, "lease": {"maxLost": 0}}, "maxLost", id="never lost"),
        pytest.param({**SMALLEST, "retention": {"dead": {"count": 1}}}, "dead", id="kept without an age"),
        pytest.param({**SMALLEST, "retention": {"dead": {"age": "1d", "count": 10_000_001}}}, "count", id="kept too many"),
        pytest.param({**SMALLEST, "rateLimit": {"perSecond": 0, "burst": 1}}, "perSecond", id="a rate of nothing"),
        pytest.param({**SMALLEST, "rateLimit": {"perSecond": 0.5, "burst": 1}}, "perSecond", id="half a task"),
        pytest.param({**SMALLEST, "rateLimit": {"perSecond": 1_000_001, "burst": 1}}, "perSecond", id="too fast a rate"),
        pytest.param({**SMALLEST, "rateLimit": {"perSecond": 10, "burst": 0}}, "burst", id="no task at once"),
        pytest.param({**SMALLEST, "rateLimit": {"perSecond": 10}}, "rateLimit", id="a rate without a burst"),
        pytest.param(scheduled(cron="0 3 * *"), "cron", id="four fields"),
        pytest.param(scheduled(name="every night"), "name", id="a blank in a schedule's name"),
        pytest.param(scheduled(overlap="Forbid"), "overlap", id="an unknown overlap"),
        pytest.param(scheduled(catchUp="All"), "catchUp", id="an unknown catch-up"),
        pytest.param(scheduled(timeZone=""), "timeZone", id="no time zone"),
        pytest.param(scheduled(jitter=30), "jitter", id="jitter without a unit"),
        pytest.param(scheduled(priority=101), "priority", id="too urgent a schedule"),
        pytest.param(scheduled(expires=60), "expires", id="an expiry without a unit"),
        pytest.param(scheduled(headers={"a": 1}), "headers", id="a header that is no text"),
        pytest.param(scheduled(retry={"jitter": "Half"}), "jitter", id="an unknown jitter of a schedule"),
        pytest.param(scheduled(payload=[]), "payload", id="arguments without names"),
        pytest.param(scheduled(suspend="yes"), "suspend", id="yes is not true for a schedule either"),
        pytest.param({**SMALLEST, "schedules": [{"name": "a", "cron": "@daily"}]}, "schedules", id="a schedule of nothing"),
        pytest.param({**SMALLEST, "scaling": {"maxReplicas": 0}}, "maxReplicas", id="never any worker"),
        pytest.param({**SMALLEST, "scaling": {"backlogPerReplica": 0}}, "backlogPerReplica", id="no backlog a replica"),
        pytest.param({**SMALLEST, "scaling": {"paused": "Yes"}}, "paused", id="an unknown pause"),
        pytest.param({**SMALLEST, "queue": {"name": "Emails"}}, "name", id="a capital letter"),
        pytest.param({**SMALLEST, "queue": {"name": "a" * 64}}, "name", id="a long name"),
        pytest.param({**SMALLEST, "redis": {"urlSecretRef": {"key": "url"}}}, "urlSecretRef", id="a secret without a name"),
        pytest.param({**SMALLEST, "redis": {"urlSecretRef": {"name": "../x/secrets/y"}}}, "urlSecretRef", id="a path for a secret"),
        pytest.param({**SMALLEST, "redis": {"urlSecretRef": {"name": "."}}}, "urlSecretRef", id="a dot for a secret"),
        pytest.param(of_secrets(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"name": "../x"}}}]), "env", id="a path in env"),
        pytest.param(of_secrets(envFrom=[{"secretRef": {"name": "a/../b"}}]), "envFrom", id="a path in envFrom"),
        pytest.param(of_secrets(envFrom=[{"secretRef": {}}]), "envFrom", id="envFrom of no secret"),
        pytest.param(
            {**SMALLEST, "redis": {"urlSecretRef": {"name": "r"}, "namespace": "a:b"}}, "namespace", id="a colon in a namespace"
        ),
        pytest.param({}, "spec", id="no worker"),
    ],
)
def test_both_refuse(spec: Object, at: str):
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate(manifest(spec), strict(schema()))
    assert at in f"{refused.value.json_path} {refused.value.message}"
    with pytest.raises(Invalid):
        parse(manifest(spec))


def texts(field: Object) -> st.SearchStrategy[str]:
    """Everything that a field of the schema takes."""
    return st.from_regex(field["pattern"], fullmatch=True).filter(lambda text: len(text) <= field["maxLength"])


@given(texts(SPEC["properties"]["worker"]["properties"]["taskTimeout"]))
def test_every_compared_duration_of_the_cluster_is_one_here(text: str):
    assert parse_duration(text) >= 0


@given(texts(SPEC["properties"]["retry"]["properties"]["maxDelay"]))
def test_every_duration_of_the_cluster_is_one_here(text: str):
    assert parse_duration(text) >= 0


@pytest.mark.parametrize("text", ["250ms", "30s", "1m30s", "1.5h", "86400s", "9999h59m59s999ms"])
def test_ordinary_durations_are_taken(text: str):
    field = SPEC["properties"]["worker"]["properties"]["taskTimeout"]
    jsonschema.validate(text, strict(field))


@given(texts(SPEC["properties"]["retry"]["properties"]["multiplier"]))
def test_every_multiplier_of_the_cluster_is_one_here(text: str):
    assert parse(manifest({**SMALLEST, "retry": {"multiplier": text}})).spec.retry.multiplier == float(text)


@pytest.mark.parametrize("field", [pytest.param(node, id=path) for path, node in FIELDS])
def test_every_field_is_bounded_and_explained(field: Object):
    if "items" not in field and field.get("type") != "object":
        assert field.get("description"), "kubectl explain would say nothing"
    match field.get("type", "string" if "x-kubernetes-int-or-string" in field else ""):
        case "string":
            assert "maxLength" in field or "enum" in field or field.get("format") == "date-time"
        case "integer":
            assert "minimum" in field
            assert "maximum" in field or "default" not in field
        case "array":
            assert "maxItems" in field
        case "object":
            assert {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & field.keys()
            open_ended = field.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in field
            assert "maxProperties" in field or not open_ended
        case other:
            assert other == "boolean"  # and never a float


def test_only_suspend_is_a_boolean():
    """An enum can grow a third value later, a boolean cannot."""
    ours = [path for path, node in FIELDS if node.get("type") == "boolean" and not path.startswith("spec.worker.template.")]
    assert ours == ["spec.suspend", "spec.schedules[].suspend"]


def test_the_names_are_those_of_the_code():
    spec = crd()["spec"]
    assert (spec["group"], spec["names"]["kind"], spec["names"]["plural"]) == (taskqueue.GROUP, taskqueue.KIND, taskqueue.PLURAL)
    assert [version["name"] for version in spec["versions"]] == [taskqueue.VERSION]
    assert spec["names"]["shortNames"] == ["tq"]


def test_every_column_shows_a_field_of_the_status():
    columns = {each["name"]: each["jsonPath"] for each in crd()["spec"]["versions"][0]["additionalPrinterColumns"]}
    narrow = ["Ready", "Desired", "Replicas", "Busy", "Queued", "Oldest-Wait", "Dead", "Reason"]
    assert list(columns) == [*narrow, "Up-To-Date", "Draining", "Scheduled", "Unclaimed", "Age"]
    known = {"." + path for path, _ in FIELDS} | {".metadata.creationTimestamp"}
    assert {path.partition("[?")[0] for path in columns.values()} <= known


def test_it_stays_small():
    """Objects over 262,144 bytes can no longer be applied with `kubectl apply`."""
    assert len(json.dumps(crd())) < 65_536
