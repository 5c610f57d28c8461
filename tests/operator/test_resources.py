"""From a TaskQueue to its Deployment."""

from typing import Any

import pytest

from stoker.errors import Invalid
from stoker.settings import worker_environment
from stoker_operator.reconcile.inherited import inherited
from stoker_operator.reconcile.resources import TEMPLATE_HASH, Connection, check, created, deployment
from tests.operator.observed import CONNECTION, OWNER, REF, manifest, task_queue


def pod(connection: Connection = Connection("redis://redis:6379/0"), **spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = manifest(connection, **spec)["spec"]["template"]["spec"]
    return found


def container(**spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = pod(**spec)["containers"][0]
    return found


def environment(**spec: Any) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(**spec)["env"]}


def test_it_has_the_queues_name_and_belongs_to_it() -> None:
    metadata = manifest()["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("emails-worker", "shop")
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "stoker.dev/v1alpha1",
            "kind": "TaskQueue",
            "name": "emails",
            "uid": OWNER.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert metadata["labels"] == {
        "app.kubernetes.io/name": "stoker-worker",
        "app.kubernetes.io/instance": "emails",
        "app.kubernetes.io/managed-by": "stoker-operator",
        "stoker.dev/taskqueue": "emails",
    }


def test_it_never_says_replicas() -> None:
    assert "replicas" not in manifest(replicas=5)["spec"]


def test_the_selector_is_part_of_the_pods_labels() -> None:
    spec = manifest()["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert spec["selector"]["matchLabels"] == REF.selector


def test_a_worker_knows_all_that_the_spec_says() -> None:
    queue = task_queue(queue={"name": "mails"})
    known = environment(queue={"name": "mails"})
    assert worker_environment(queue, "shop").items() <= known.items()
    assert known["STOKER_QUEUE"] == "mails"
    assert known["STOKER_REDIS_URL"] == {"secretKeyRef": {"name": "stoker-redis", "key": "STOKER_REDIS_URL"}}
    assert known["POD_NAME"]["fieldRef"]["fieldPath"] == "metadata.name"


def test_the_key_namespace_is_the_taskqueues_own() -> None:
    """Two namespaces on one Redis have no key in common."""
    assert environment()["STOKER_NAMESPACE"] == REF.namespace
    elsewhere = {"urlSecretRef": {"name": "cache"}, "namespace": "legacy"}
    assert environment(redis=elsewhere)["STOKER_NAMESPACE"] == "legacy"


def test_a_secret_url_is_a_reference_never_a_text() -> None:
    known = environment(
        redis={"urlSecretRef": {"name": "cache", "key": "uri"}}, connection=Connection("redis://:secret@redis/0", "d")
    )
    assert known["STOKER_REDIS_URL"] == {"secretKeyRef": {"name": "cache", "key": "uri"}}


def test_the_users_variables_come_last() -> None:
    """So that they may refer to the operator's with $(NAME)."""
    mine = {"name": "COLOUR", "value": "$(POD_NAME)"}
    assert container(worker={"image": "shop:1", "env": [mine]})["env"][-1] == mine


@pytest.mark.parametrize(
    ("app", "arguments"), [pytest.param("shop:app", ["worker"], id="an app"), pytest.param("", None, id="the image's own command")]
)
def test_what_is_started(app: str, arguments: list[str] | None) -> None:
    started = container(worker={"image": "shop:1", "app": app})
    assert started.get("args") == arguments
    assert "command" not in started


def test_services_of_the_namespace_do_not_become_settings() -> None:
    """A Service called "stoker" would set STOKER_PORT to tcp://..."""
    assert pod()["enableServiceLinks"] is False


def test_a_worker_is_drained_before_any_signal() -> None:
    """A script without `exec` ends at SIGTERM, and takes its worker along."""
    container = manifest()["spec"]["template"]["spec"]["containers"][0]
    assert container["lifecycle"] == {"preStop": {"exec": {"command": ["stoker", "worker", "drain"]}}}


def test_a_hung_worker_is_given_no_time() -> None:
    pod = manifest()["spec"]["template"]["spec"]
    probe = pod["containers"][0]["livenessProbe"]
    assert probe["terminationGracePeriodSeconds"] == 10 < pod["terminationGracePeriodSeconds"]


def test_nodes_can_be_given_back() -> None:
    template = manifest()["spec"]["template"]
    [volume] = template["spec"]["volumes"]
    assert template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"] == volume["name"]
    assert volume["emptyDir"]["sizeLimit"]


def test_the_pods_have_the_users_labels_and_annotations() -> None:
    worker = {"image": "shop:1", "labels": {"example.org/team": "payments"}, "annotations": {"example.org/note": "two words"}}
    made = manifest(worker=worker)
    pods = made["spec"]["template"]["metadata"]
    assert pods["labels"].items() >= {"example.org/team": "payments", **REF.selector}.items()
    assert pods["annotations"]["example.org/note"] == "two words"
    assert "example.org/team" not in made["spec"]["selector"]["matchLabels"]


def test_another_label_of_the_pods_replaces_them_and_one_of_the_taskqueue_does_not() -> None:
    def template(labels: dict[str, str], inherited: dict[str, str]) -> Any:
        queue = task_queue(worker={"image": "shop:1", "labels": labels})
        return deployment(queue, OWNER, CONNECTION, inherited=inherited)["spec"]["template"]

    assert template({"team": "a"}, {}) != template({"team": "b"}, {})
    assert template({}, {"team": "a"}) == template({}, {})


@pytest.mark.parametrize(
    ("label", "passed_on"),
    [
        pytest.param("cost-center", True, id="a plain one"),
        pytest.param("example.org/team", True, id="one with a prefix"),
        pytest.param("app.kubernetes.io/part-of", True, id="of what it is part"),
        pytest.param("app.kubernetes.io/version", True, id="its version"),
        pytest.param("app.kubernetes.io/instance", False, id="by which Argo CD finds what is its own"),
        pytest.param("app.kubernetes.io/managed-by", False, id="Helm's, and ours"),
        pytest.param("argocd.argoproj.io/instance", False, id="Argo CD's"),
        pytest.param("kustomize.toolkit.fluxcd.io/name", False, id="Flux's"),
        pytest.param("helm.sh/chart", False, id="Helm's chart"),
        pytest.param("applyset.kubernetes.io/part-of", False, id="kubectl's prune"),
        pytest.param("stoker.dev/taskqueue", False, id="ours"),
        pytest.param("notkubernetes.io/team", True, id="a domain that only ends alike"),
    ],
)
def test_the_deployment_inherits_labels_of_people_not_of_tools(label: str, passed_on: bool) -> None:
    task_queue = {"metadata": {"labels": {label: "x"}}}
    assert (label in inherited(task_queue)) is passed_on


def test_a_taskqueue_without_labels_hands_none_down() -> None:
    assert inherited({"metadata": {}}) == {}


def test_the_grace_period_covers_the_drain() -> None:
    grace = pod(worker={"image": "shop:1", "taskTimeout": "90s", "drainTimeout": "100.5s"})["terminationGracePeriodSeconds"]
    assert grace == 101 + 15


@pytest.mark.parametrize(("timeout", "failures"), [("75s", 75), ("1.5s", 2), (None, 300)])
def test_an_application_may_take_its_time_to_load(timeout: str | None, failures: int) -> None:
    probe = container(worker={"image": "shop:1", **({"startupTimeout": timeout} if timeout else {})})["startupProbe"]
    assert probe["httpGet"]["path"] == "/startz"
    assert probe["periodSeconds"] * probe["failureThreshold"] == failures


def test_user_ids_can_be_left_to_the_cluster() -> None:
    """OpenShift refuses ids outside the range of the namespace."""
    ids = {"runAsUser", "runAsGroup", "fsGroup"}
    assert {pod()["securityContext"][name] for name in ids} == {65532}
    security = pod(worker={"image": "shop:1", "userIds": "Cluster"})["securityContext"]
    assert not ids & security.keys()
    assert security["runAsNonRoot"] is True


def test_probes_ask_the_workers_own_pages() -> None:
    worker = container()
    assert worker["ports"] == [{"name": "http", "containerPort": 9090, "protocol": "TCP"}]
    assert worker["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http", "scheme": "HTTP"}
    assert worker["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http", "scheme": "HTTP"}


def test_a_changed_secret_changes_the_template() -> None:
    hashes = {manifest(Connection("redis://r", digest))["metadata"]["annotations"][TEMPLATE_HASH] for digest in ("", "a", "b")}
    assert len(hashes) == 3


def test_what_is_created_is_the_whole_manifest_and_replicas() -> None:
    """A policy on Deployments may refuse one without probes, limits or a user."""
    whole = manifest()
    assert created(whole, 4) == {**whole, "spec": {**whole["spec"], "replicas": 4}}
    assert "replicas" not in whole["spec"]


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        pytest.param({"app": "shop:app"}, "spec.worker.image is missing: set it to the image", id="no image"),
        pytest.param(
            {"image": "shop:1", "env": [{"name": "A"}, {"name": "STOKER_REDIS_URL"}]},
            "spec.worker.env[1]: STOKER_REDIS_URL is set by the operator from other fields",
            id="a variable that is ours",
        ),
    ],
)
def test_what_a_cluster_refuses(worker: dict[str, Any], message: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(task_queue(worker=worker))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("worker", "resources"),
    [
        pytest.param({}, {"requests": {"cpu": "50m", "memory": "96Mi"}}, id="the usual"),
        pytest.param({"processes": 4}, {"requests": {"cpu": "200m", "memory": "384Mi"}}, id="for each process"),
        pytest.param({"resources": {"limits": {"memory": "1Gi"}}}, {"limits": {"memory": "1Gi"}}, id="the user's alone"),
        pytest.param({"resources": {"requests": {}}}, {"requests": {}}, id="none, on purpose"),
        pytest.param(
            {"template": {"spec": {"containers": [{"name": "worker", "resources": {"limits": {"memory": "32Mi"}}}]}}},
            {"limits": {"memory": "32Mi"}},
            id="the template's alone: a request above its limit would be refused",
        ),
    ],
)
def test_a_worker_asks_for_a_little_unless_it_says_otherwise(worker: dict[str, Any], resources: dict[str, Any]) -> None:
    assert container(worker={"image": "shop:1", **worker}).get("resources") == resources
