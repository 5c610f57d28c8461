"""spec.worker.template: what it may say, and what becomes of the worker pod."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.errors import Invalid
from stoker_operator.reconcile import pod_fields as fields
from stoker_operator.reconcile.config_sources import Source, sources
from stoker_operator.reconcile.drift import drifted
from stoker_operator.reconcile.merge import MERGE_KEYS, ONE_OF
from stoker_operator.reconcile.pod_template import MAX_BYTES, MAX_DEPTH
from stoker_operator.reconcile.resources import TEMPLATE_HASH, check
from stoker_operator.state.ref import Object
from tests.operator.apiserver import ApiServer, unverified
from tests.operator.observed import REF, manifest, task_queue

B = {"name": "B", "value": "2"}
SIDECAR = {"name": "proxy", "image": "proxy:1"}


def worker(template: Any, **rest: Any) -> dict[str, Any]:
    return {"image": "shop:1", **rest, "template": template}


def of_pod(**spec: Any) -> Object:
    return {"spec": spec}


def of_worker(**container: Any) -> Object:
    return of_pod(containers=[{"name": "worker", **container}])


def made(template: Object, **rest: Any) -> Any:
    """The pod template for it, as far as the operator takes it."""
    check(task_queue(worker=worker(template, **rest)))
    return manifest(worker=worker(template, **rest))["spec"]["template"]


def refusal(template: Any, *, tokens: bool = False) -> str:
    with pytest.raises(Invalid) as refused:
        check(task_queue(worker=worker(template)), tokens=tokens)
    return str(refused.value)


# The tables and the API server


@pytest.fixture(scope="module")
def schemas(api_server: ApiServer) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {api_server.token}"}
    reply = httpx.get(f"{api_server.url}/openapi/v3/apis/apps/v1", headers=headers, verify=unverified(), timeout=30)
    return dict(reply.json()["components"]["schemas"])


def resolved(schemas: dict[str, Any], node: Object) -> Object:
    for each in (node, *node.get("allOf", ())):
        if "$ref" in each:
            return dict(schemas[each["$ref"].rpartition("/")[2]])
    return node


def lists(schemas: dict[str, Any], node: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    for name, child in resolved(schemas, node).get("properties", {}).items():
        at = f"{path}.{name}".lstrip(".")
        if child.get("type") == "array":
            yield at, child
            yield from lists(schemas, child["items"], at)
        else:
            yield from lists(schemas, child, at)


OUTSIDE = ("metadata.", "spec.ephemeralContainers", "spec.volumes.ephemeral.volumeClaimTemplate.metadata.")
"""Lists that no template may have, or that are replaced with what is around them."""


def test_lists_are_merged_by_the_keys_of_the_api_server(schemas: dict[str, Any]):
    template = schemas["io.k8s.api.core.v1.PodTemplateSpec"]
    found = {path: node for path, node in lists(schemas, template) if not path.startswith(OUTSIDE)}
    keys = {path: tuple(node.get("x-kubernetes-list-map-keys", ())) for path, node in found.items()}
    by_key = {path: key for path, key in keys.items() if key}
    assert dict(MERGE_KEYS) == by_key
    assert {path for path, node in found.items() if "retainKeys" in node.get("x-kubernetes-patch-strategy", "")} == ONE_OF
    for path, node in found.items():
        if key := node.get("x-kubernetes-patch-merge-key"):
            assert key in MERGE_KEYS[path]


@pytest.mark.parametrize(
    ("kind", "allowed", "refused"),
    [
        pytest.param("PodTemplateSpec", fields.TEMPLATE, {}, id="template"),
        pytest.param("PodSpec", fields.POD, fields.POD_REFUSED, id="pod"),
        pytest.param("Container", fields.CONTAINER, fields.CONTAINER_REFUSED, id="container"),
        pytest.param("Container", fields.INIT_CONTAINER, fields.INIT_REFUSED, id="init container"),
        pytest.param("Container", fields.CONTAINER - fields.WORKER_REFUSED.keys(), fields.WORKER_REFUSED, id="worker"),
        pytest.param("Volume", fields.VOLUME, fields.VOLUME_REFUSED, id="volume"),
        pytest.param("VolumeProjection", fields.PROJECTION, fields.PROJECTION_REFUSED, id="projection"),
        pytest.param("PodSecurityContext", fields.POD_SECURITY, fields.SECURITY_REFUSED, id="security of a pod"),
        pytest.param("SecurityContext", fields.CONTAINER_SECURITY, fields.SECURITY_REFUSED, id="security of a container"),
    ],
)
def test_each_field_of_kubernetes_is_allowed_or_refused_with_a_reason(
    schemas: dict[str, Any], kind: str, allowed: frozenset[str], refused: dict[str, str]
):
    known = set(schemas[f"io.k8s.api.core.v1.{kind}"]["properties"])
    assert allowed | refused.keys() == known
    assert not allowed & refused.keys()


# What is refused


@pytest.mark.parametrize(
    ("template", "words"),
    [
        pytest.param({"spec": []}, ["template.spec", "an object"], id="a list for a pod"),
        pytest.param({"kind": "Pod"}, ["template.kind", "no such field"], id="a field of another object"),
        pytest.param({"metadata": {"name": "x"}}, ["metadata.name"], id="a name"),
        pytest.param({"metadata": {"labels": {"a": 1}}}, ["labels.a", "quotes"], id="a number for a label"),
        pytest.param({"metadata": {"labels": {"stoker.dev/x": "1"}}}, ["stoker.dev/x", "prefix"], id="our prefix"),
        pytest.param(of_pod(hostNetwork=True), ["spec.hostNetwork", "node"], id="the node's network"),
        pytest.param(of_pod(hostPID=True), ["spec.hostPID"], id="the node's processes"),
        pytest.param(of_pod(hostIPC=True), ["spec.hostIPC"], id="the node's memory"),
        pytest.param(of_pod(nodeName="n"), ["spec.nodeName", "nodeSelector"], id="one node"),
        pytest.param(of_pod(ephemeralContainers=[]), ["ephemeralContainers", "kubectl debug"], id="debugging"),
        pytest.param(of_pod(terminationGracePeriodSeconds=1), ["spec.worker.drainTimeout"], id="the grace period"),
        pytest.param(of_pod(sacling=1), ["spec.sacling", "no such field"], id="a typing error"),
        pytest.param(of_pod(automountServiceAccountToken=True), ["serviceAccountTokens"], id="a token"),
        pytest.param(of_pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), ["volumes[a].hostPath", "node"], id="a host path"),
        pytest.param(of_pod(volumes=[{"name": "a", "nfs": {}}]), ["volumes[a].nfs", "persistentVolumeClaim"], id="a driver"),
        pytest.param(of_pod(volumes=[{"name": "a"}]), ["volumes[a]", "one source"], id="no source"),
        pytest.param(of_pod(volumes=[{"emptyDir": {}}]), ["volumes[0]", "needs name"], id="no name"),
        pytest.param(
            of_pod(volumes=[{"name": "a", "projected": {"sources": [{"serviceAccountToken": {}}]}}]),
            ["volumes[a].projected.sources[0].serviceAccountToken"],
            id="a projected token",
        ),
        pytest.param(of_pod(containers={}), ["containers", "list of objects"], id="a map for containers"),
        pytest.param(of_pod(containers=["a"]), ["containers", "list of objects"], id="texts for containers"),
        pytest.param(of_pod(containers=[SIDECAR, SIDECAR]), ["containers[proxy]", "two items"], id="one container twice"),
        pytest.param(of_worker(lifecycle={}), ["containers[worker].lifecycle", "preStop"], id="another way to stop"),
        pytest.param(of_worker(ports=[{"containerPort": 1, "hostPort": 1}]), ["ports[0].hostPort"], id="a port of the node"),
        pytest.param(of_worker(env=[{"value": "x"}]), ["env[0]", "needs name"], id="a variable without a name"),
        pytest.param(of_worker(securityContext={"privileged": True}), ["securityContext.privileged"], id="privileged"),
        pytest.param(of_worker(securityContext={"runAsUser": 0}), ["securityContext.runAsUser"], id="root"),
        pytest.param(of_worker(securityContext={"capabilities": {"add": ["NET_ADMIN"]}}), ["capabilities.add"], id="a capability"),
        pytest.param(of_worker(securityContext={"capabilities": {"drop": ["A"]}}), ["drop ALL"], id="capabilities that stay"),
        pytest.param(of_worker(securityContext={"seccompProfile": {"type": "Unconfined"}}), ["seccompProfile"], id="no seccomp"),
        pytest.param(of_worker(securityContext={"windowsOptions": {}}), ["Linux"], id="Windows"),
        pytest.param(of_pod(securityContext={"runAsNonRoot": False}), ["spec.securityContext.runAsNonRoot"], id="root for all"),
        pytest.param(of_pod(securityContext={"sysctls": [{"name": "kernel.x"}]}), ["sysctls"], id="a sysctl"),
        pytest.param(of_pod(securityContext={"seLinuxOptions": {"user": "u"}}), ["seLinuxOptions"], id="SELinux"),
        pytest.param(of_pod(initContainers=[{"name": "worker"}]), ["no init container"], id="the worker before itself"),
        pytest.param(
            of_pod(initContainers=[{**SIDECAR, "restartPolicy": "Never"}]), ["restartPolicy", "Always"], id="another restart"
        ),
        pytest.param(
            of_pod(containers=[{**SIDECAR, "restartPolicy": "Always"}]), ["init container"], id="a sidecar at the wrong place"
        ),
        pytest.param(
            of_pod(containers=[{**SIDECAR, "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]),
            ["httpGet.host"],
            id="a foreign host",
        ),
        pytest.param(of_worker(image="other:1"), ["spec.worker.image", "keep one"], id="two images"),
        pytest.param(
            {"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/worker": "unconfined"}}},
            ["annotations", "restricted"],
            id="no AppArmor",
        ),
        pytest.param(
            {"metadata": {"annotations": {"a": "x" * MAX_BYTES}}}, [f"more than {MAX_BYTES}", "ConfigMap"], id="too large"
        ),
    ],
)
def test_a_field_is_refused_by_name_and_reason(template: Any, words: list[str]):
    message = refusal(template)
    for word in words:
        assert word in message
    assert len(message) < 600


def test_tokens_of_service_accounts_are_the_operators_decision():
    token = {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    template = of_pod(serviceAccountName="s3", automountServiceAccountToken=True, volumes=[token])
    assert "serviceAccountTokens" in refusal(template)
    check(task_queue(worker=worker(template)), tokens=True)


def test_a_template_that_is_too_deep_is_refused_not_followed():
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert f"deeper than {MAX_DEPTH} levels" in refusal(of_pod(affinity=deep))


NAMES = sorted(
    {*fields.POD, *fields.POD_REFUSED, *fields.CONTAINER, *fields.VOLUME, *fields.POD_SECURITY, *fields.CONTAINER_SECURITY, "spec"}
    | {"metadata", "labels", "sources", "httpGet", "host", "type", "add", "drop", "containerPort", "protocol", "mountPath", "a", ""}
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["worker", "tmp", "", "a", "TCP"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
items = st.lists(st.dictionaries(st.sampled_from(NAMES), anything, max_size=4) | anything, max_size=3)
hostile = anything | st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries({}, optional={"labels": anything, "annotations": anything}),
        "spec": st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(("containers", "initContainers", "volumes", "tolerations"), items | anything)
            | {"securityContext": anything, "affinity": anything},
        ),
    },
)


@given(hostile)
def test_whatever_a_template_is_it_is_rendered_or_refused(template: Any):
    try:
        queue = task_queue(worker=worker(template))
        sources(queue)
        check(queue, tokens=True)
    except Invalid:
        return
    made = manifest(worker=worker(template))
    pod = made["spec"]["template"]
    json.dumps(pod)
    assert pod["metadata"]["labels"].items() >= REF.selector.items()
    first = pod["spec"]["containers"][0]
    plain = manifest()["spec"]["template"]["spec"]["containers"][0]
    assert first["name"] == "worker"
    assert all(first[probe] == plain[probe] for probe in fields.PROBES)
    assert not drifted(made, made)


# What becomes of it


def test_without_a_template_the_pods_stay_as_they_are():
    """Null everywhere is no template either."""
    plain = manifest()["metadata"]["annotations"][TEMPLATE_HASH]
    app = {"app": "shop:app"}
    for template in ({}, {"spec": {}}, {"metadata": None, "spec": None}, of_pod(volumes=None, containers=[{"name": "worker"}])):
        assert manifest(worker=worker(template, **app))["metadata"]["annotations"][TEMPLATE_HASH] == plain


def test_ours_wins_for_labels_variables_port_and_probes():
    template = {
        "metadata": {"labels": {"team": "a", "app.kubernetes.io/name": "x"}},
        **of_worker(
            env=[
                {"name": "STOKER_QUEUE", "value": "other"},
                {"name": "STOKER_TEMPLATE", "value": "x"},
                B,
            ],
            livenessProbe={"exec": {"command": ["true"]}},
            ports=[{"containerPort": 9090, "name": "mine"}, {"containerPort": 9090, "protocol": "UDP", "name": "udp"}],
        ),
    }
    pod, plain = made(template), made({})
    assert pod["metadata"]["labels"] == {**plain["metadata"]["labels"], "team": "a"}
    container, usual = pod["spec"]["containers"][0], plain["spec"]["containers"][0]
    assert container["livenessProbe"] == usual["livenessProbe"]
    assert container["env"][1:] == [*usual["env"][1:], B]
    assert container["ports"] == [*usual["ports"], {"containerPort": 9090, "protocol": "UDP", "name": "udp"}]


def test_a_sidecar_is_as_confined_as_the_worker():
    native = {**SIDECAR, "name": "native", "restartPolicy": "Always", "securityContext": {"readOnlyRootFilesystem": True}}
    pod = made(of_pod(containers=[SIDECAR], initContainers=[native]))["spec"]
    assert [each["name"] for each in pod["containers"]] == ["worker", "proxy"]
    for container in (*pod["containers"][1:], *pod["initContainers"]):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert pod["initContainers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_volume_of_our_name_replaces_ours():
    """A pod whose volume has two sources is refused by the API server."""
    memory = made(of_pod(volumes=[{"name": "tmp", "emptyDir": {"medium": "Memory"}}]))["spec"]["volumes"]
    assert memory == [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}]
    claim = {"name": "tmp", "persistentVolumeClaim": {"claimName": "scratch"}}
    assert made(of_pod(volumes=[claim]))["spec"]["volumes"] == [claim]


def test_two_mounts_of_one_volume_are_no_drift():
    """They are told apart by their path, as the API server does."""
    mounts = [{"name": "config", "mountPath": "/a"}, {"name": "config", "mountPath": "/b"}]
    template = of_pod(
        volumes=[{"name": "config", "configMap": {"name": "c"}}], containers=[{"name": "worker", "volumeMounts": mounts}]
    )
    one = manifest(worker=worker(template))
    assert not drifted(one, one)


def test_secrets_that_a_template_reads_roll_the_workers():
    reads = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]
    template = of_pod(containers=[{"name": "worker", "env": reads}, {**SIDECAR, "envFrom": [{"configMapRef": {"name": "c"}}]}])
    found = sources(task_queue(worker=worker(template)))
    assert Source("Secret", "s", "k") in found
    assert Source("ConfigMap", "c", None) in found


def test_the_image_may_be_in_the_template():
    template = of_worker(image="shop:2")
    queue = {"worker": {"template": template}}
    check(task_queue(**queue))
    assert manifest(**queue)["spec"]["template"]["spec"]["containers"][0]["image"] == "shop:2"
