"""What the chart installs: the right parts, in restricted pods, with the least rights that do."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
from redis import Redis

from stoker.cli import build
from stoker.version import VERSION
from stoker_operator import settings
from tests.chart.rendering import CHART, NAMESPACE, ROOT, Object, helm, of_kind, refusal, render
from tests.operator.rights import ELECTION, NAMESPACED, rules, verbs_by_kind
from tests.redis_servers import running_valkey

SETS: dict[str, Object] = {
    "default": {},
    "some namespaces": {"watchNamespaces": ["shop", "mail"]},
    "own Redis by URL": {"redis": {"enabled": False, "url": "rediss://user:pass@redis.example.org:6380/1"}},
    "own Redis by Secret": {"redis": {"enabled": False, "existingSecret": {"name": "cache", "key": "uri"}}},
    "credentials by an administrator": {"tenants": {"credentials": "Provided"}},
    "without a gateway": {"gateway": {"enabled": False}, "crds": {"install": False}, "rbac": {"aggregate": False}},
    "two operators": {"operator": {"replicas": 2}},
    "everything": {
        "imagePullSecrets": [{"name": "registry"}],
        "operator": {
            "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel:4318"}],
            "nodeSelector": {"disk": "ssd"},
        },
        "gateway": {"replicas": 3, "tolerations": [{"key": "spot", "operator": "Exists"}], "podAnnotations": {"a": "b"}},
        "redis": {"image": "redis:8", "command": ["redis-server"], "persistence": {"enabled": True, "storageClass": "fast"}},
        "monitoring": {"podMonitors": {"enabled": True}, "rules": {"enabled": True}, "dashboards": {"enabled": True}},
    },
}
EVERY = [pytest.param(values, id=name) for name, values in SETS.items()]
OWN_REDIS = [pytest.param(SETS[name], id=name) for name in ("own Redis by URL", "own Redis by Secret")]


def pods(objects: list[Object]) -> dict[str, Object]:
    """The specification of every pod, by the name of who makes it."""
    templates = {
        f"{each['kind']} {each['metadata']['name']}": each
        for each in objects
        if each["kind"] in {"Deployment", "StatefulSet", "Pod"}
    }
    return {name: each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"] for name, each in templates.items()}


def environment(pod: Object) -> dict[str, Any]:
    """Variables of its only container: a text, or where it comes from."""
    (container,) = pod["containers"]
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def rights(role: Object) -> dict[str, set[str]]:
    """What a role may do, by `group/resource`."""
    return {
        f"{group}/{resource}": set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("values", EVERY)
def test_every_pod_is_restricted(values: Object):
    for name, pod in pods(render(values)).items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] == (999 if name.endswith("-redis") else 65532), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        assert all(volume.keys() <= {"name", "emptyDir"} for volume in pod.get("volumes", [])), name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert container["resources"]["limits"].keys() == {"memory"}, name  # a CPU limit would only slow it down


def test_user_ids_can_be_left_to_the_cluster():
    """OpenShift refuses ids outside the range of the namespace."""
    for name, pod in pods(render({"podSecurity": {"userIds": "Cluster"}})).items():
        assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, name


def test_the_gateway_listens_on_both_families_of_addresses():
    gateway = pods(render({}))["Deployment stoker-gateway"]
    assert environment(gateway)["STOKER_HOST"] == "::"


@pytest.mark.parametrize("values", EVERY)
def test_only_the_operator_speaks_to_kubernetes(values: Object):
    with_token = {name for name, pod in pods(render(values)).items() if pod["automountServiceAccountToken"]}
    assert with_token == {"Deployment stoker-operator"}


@pytest.mark.parametrize("values", EVERY)
def test_no_pod_takes_a_service_for_a_setting(values: Object):
    """A Service called `stoker` would set STOKER_PORT to tcp://... in every pod of its namespace."""
    assert all(pod["enableServiceLinks"] is False for pod in pods(render(values)).values())


@pytest.mark.parametrize("values", EVERY)
def test_selectors_and_ports_find_their_pods(values: Object):
    objects = render(values)
    made = [each for each in objects if each["kind"] in {"Deployment", "StatefulSet"}]
    for each in made:
        assert each["spec"]["selector"]["matchLabels"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
    for service in of_kind(objects, "Service").values():
        chosen = [
            each for each in made if service["spec"]["selector"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert [each["metadata"]["name"] for each in chosen] == [service["metadata"]["name"]]
        (container,) = chosen[0]["spec"]["template"]["spec"]["containers"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {port["name"] for port in container["ports"]}


@pytest.mark.parametrize("values", EVERY)
def test_everything_says_its_namespace(values: Object):
    """So that `kubectl apply -f k8s/install.yaml` puts it where the Namespace is."""
    cluster_wide = {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
    allowed = {NAMESPACE, *values.get("watchNamespaces", [])}
    for each in render(values):
        if each["kind"] in cluster_wide:
            assert "namespace" not in each["metadata"]
        else:
            assert each["metadata"]["namespace"] in allowed


def test_the_operators_rights_in_a_whole_cluster():
    objects = render()
    role = of_kind(objects, "ClusterRole")["stoker-operator"]
    assert rights(role) == verbs_by_kind()
    [namespaces] = [rule for rule in role["rules"] if rule["resources"] == ["namespaces"]]
    assert namespaces["resourceNames"] == ["kube-system"]
    binding = of_kind(objects, "ClusterRoleBinding")["stoker-operator"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "stoker-operator", "namespace": NAMESPACE}]
    assert of_kind(objects, "Role").keys() == {"stoker-operator-passwords", "stoker-operator-own"}


def test_the_operators_rights_over_itself():
    """It sees its own namespace end, and the hook of `helm uninstall` stops it: nothing else by this Role."""
    rules = of_kind(render(SETS["some namespaces"]), "Role")["stoker-operator-own"]["rules"]
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in rules] == [
        (["namespaces"], [NAMESPACE], ["get"]),
        (["deployments"], ["stoker-operator"], ["get"]),
        (["deployments/scale"], ["stoker-operator"], ["patch"]),
        (["pods"], None, ["list"]),
    ]


def test_the_operator_creates_secrets_only_where_it_makes_credentials():
    elsewhere = {"redis": {"enabled": False, "url": "redis://a:6379/0"}}
    for values, verbs in (
        ({}, {"get", "create"}),
        ({"tenants": {"credentials": "Provided"}}, {"get"}),
        (elsewhere, {"get"}),
        ({**elsewhere, "tenants": {"credentials": "Generated"}}, {"get", "create"}),
    ):
        objects = render(values)
        assert rights(of_kind(objects, "ClusterRole")["stoker-operator"])["/secrets"] == verbs
        mode = environment(pods(objects)["Deployment stoker-operator"])["STOKER_TENANT_CREDENTIALS"]
        assert mode == ("Generated" if "create" in verbs else "Provided")
        assert ("stoker-operator-passwords" in of_kind(objects, "Role")) == ("redis" not in values)


def test_where_tenants_may_have_their_redis_is_a_list():
    hosts = ["*.cache.example.org", "redis.example.org:6380", "10.1.0.0/16", "fd00::/8"]
    for values, text in (({}, ""), ({"operator": {"allowedRedis": hosts}}, ",".join(hosts))):
        given = environment(pods(render(values))["Deployment stoker-operator"])["STOKER_ALLOWED_REDIS"]
        assert given == text
        settings.read([], {"STOKER_ALLOWED_REDIS": given, "KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert "allowedRedis" in refusal({"operator": {"allowedRedis": ["redis://user:secret@host"]}})


def test_the_password_of_the_own_redis_comes_from_the_operator():
    """No pod of the operator refers to a Secret that only the operator makes: it would wait for itself."""
    objects = render()
    assert not of_kind(objects, "Secret")
    found = pods(objects)
    operator = found["Deployment stoker-operator"]
    assert "secretKeyRef" not in str(operator)
    assert "envFrom" not in str(operator)
    own = environment(operator)
    (redis,) = found["StatefulSet stoker-redis"]["containers"]
    password = {"secretKeyRef": {"name": own["STOKER_REDIS_SECRET"], "key": "password"}}
    assert redis["env"] == [{"name": "REDISCLI_AUTH", "valueFrom": password}]
    assert redis["args"][redis["args"].index("--requirepass") + 1] == "$(REDISCLI_AUTH)"
    url = {"secretKeyRef": {"name": own["STOKER_GATEWAY_SECRET"], "key": "STOKER_REDIS_URL"}}
    for name in ("Deployment stoker-gateway", "Pod stoker-test"):
        assert environment(found[name])["STOKER_REDIS_URL"] == url
    [read, create] = of_kind(objects, "Role")["stoker-operator-passwords"]["rules"]
    assert (read["verbs"], set(read["resourceNames"])) == (["get"], {own["STOKER_REDIS_SECRET"], own["STOKER_GATEWAY_SECRET"]})
    assert (create["verbs"], create["resources"]) == (["create"], ["secrets"])


def test_the_operators_rights_in_some_namespaces():
    objects = render(SETS["some namespaces"])
    names = {"stoker-operator-passwords", "stoker-operator-own"}
    assert {each["metadata"]["name"] for each in objects if each["kind"] == "Role"} == {*names, "stoker-operator"}
    found = [each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Role", "stoker-operator")]
    roles = {each["metadata"]["namespace"]: each for each in found}
    assert roles.keys() == {"shop", "mail"}
    assert all(rights(role) == verbs_by_kind(NAMESPACED) for role in roles.values())
    assert {each["metadata"]["namespace"] for each in objects if each["kind"] == "RoleBinding"} == {"shop", "mail", NAMESPACE}
    assert not of_kind(objects, "ClusterRoleBinding")
    # What is left are roles for people, which nobody holds until an administrator hands them out.
    assert all(
        "rbac.authorization.k8s.io/aggregate-to-" in str(role["metadata"]["labels"])
        for role in of_kind(objects, "ClusterRole").values()
    )


def test_people_see_and_change_task_queues():
    roles = of_kind(render(), "ClusterRole")
    change = {"create", "update", "patch", "delete", "deletecollection"}
    for name, label in (("view", "view"), ("edit", "edit"), ("admin", "admin")):
        role = roles[f"stoker-taskqueues-{name}"]
        assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{label}"] == "true"
        verbs = rights(role)["stoker.dev/taskqueues"]
        assert verbs >= {"get", "list", "watch"}
        assert verbs & change == (set() if name == "view" else change)


@pytest.mark.parametrize("values", EVERY)
def test_no_role_has_a_wildcard(values: Object):
    for each in render(values):
        if each["kind"] in {"ClusterRole", "Role"}:
            assert "*" not in str(rights(each))


def test_the_names_that_everyone_relies_on():
    objects = render()
    assert of_kind(objects, "Deployment").keys() == {"stoker-operator", "stoker-gateway"}
    services = of_kind(objects, "Service")
    assert services["stoker-gateway"]["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    assert services["stoker-redis"]["spec"]["ports"] == [{"name": "redis", "port": 6379, "targetPort": "redis"}]
    operator = of_kind(objects, "Deployment")["stoker-operator"]
    assert (operator["spec"]["replicas"], operator["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert "STOKER_LEASE" not in environment(pods(render({}))["Deployment stoker-operator"])


def test_two_operators_elect_one_are_kept_apart_and_roll_one_by_one():
    objects = render({"operator": {"replicas": 2}, "watchNamespaces": ["shop"]})
    operator = of_kind(objects, "Deployment")["stoker-operator"]
    assert operator["spec"]["replicas"] == 2
    assert "strategy" not in operator["spec"]  # rolling: the standby is ready
    pod = pods(objects)["Deployment stoker-operator"]
    assert environment(pod)["STOKER_LEASE"] == "stoker-operator"
    labels = operator["spec"]["selector"]["matchLabels"]
    [apart] = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert apart["podAffinityTerm"]["labelSelector"]["matchLabels"] == labels
    assert of_kind(objects, "PodDisruptionBudget")["stoker-operator"]["spec"] == {
        "maxUnavailable": 1,
        "selector": {"matchLabels": labels},
    }
    role = of_kind(objects, "Role")["stoker-operator-election"]
    assert role["metadata"]["namespace"] == NAMESPACE
    assert role["rules"] == rules(ELECTION)
    own = {"nodeAffinity": {}}
    assert pods(render({"operator": {"replicas": 2, "affinity": own}}))["Deployment stoker-operator"]["affinity"] == own


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        pytest.param("prod", {}, "prod-stoker-gateway", id="another release"),
        pytest.param("stoker-eu", {}, "stoker-eu-gateway", id="a release that says stoker"),
        pytest.param("prod", {"fullnameOverride": "tasks"}, "tasks-gateway", id="a name of one's choice"),
    ],
)
def test_names_follow_the_release(release: str, values: Object, name: str):
    objects = render(values, release=release)
    assert name in of_kind(objects, "Deployment")
    prefix = name.removesuffix("-gateway")
    operator = environment(pods(objects)[f"Deployment {prefix}-operator"])
    assert operator["STOKER_REDIS_URL"] == f"redis://{prefix}-redis.{NAMESPACE}.svc:6379/0"
    assert operator["STOKER_REDIS_SECRET"] == f"{prefix}-redis-password"


def test_the_crd_outlives_the_release():
    """Deleting the CustomResourceDefinition would delete every TaskQueue, and with it every worker."""
    crd = of_kind(render(), "CustomResourceDefinition")["taskqueues.stoker.dev"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert not of_kind(render({"crds": {"install": False}}), "CustomResourceDefinition")


def test_the_images_are_of_this_version():
    used = {pod["containers"][0]["image"] for name, pod in pods(render()).items() if not name.endswith("-redis")}
    assert used == {f"stoker.dev/operator:{VERSION}", f"stoker.dev/worker:{VERSION}"}


@pytest.mark.parametrize(
    ("values", "namespace"),
    [
        pytest.param({}, NAMESPACE, id="the release's"),
        pytest.param({"gateway": {"namespace": "shop"}}, "shop", id="another"),
    ],
)
def test_the_gateway_has_a_namespace_and_the_operator_has_all(values: Object, namespace: str):
    """The operator takes each TaskQueue's own; the gateway needs one for requests that name none."""
    found = pods(render(values))
    assert environment(found["Deployment stoker-gateway"])["STOKER_NAMESPACE"] == namespace
    assert "STOKER_NAMESPACE" not in environment(found["Deployment stoker-operator"])


def test_the_gateway_takes_tasks_for_known_queues_alone_if_asked():
    setting = "STOKER_KNOWN_QUEUES_ONLY"
    assert setting not in environment(pods(render())["Deployment stoker-gateway"])
    found = pods(render({"gateway": {"knownQueuesOnly": True}}))
    assert environment(found["Deployment stoker-gateway"])[setting] == "true"


def test_the_operator_understands_its_environment():
    variables = environment(pods(render(SETS["some namespaces"]))["Deployment stoker-operator"])
    texts = {name: value for name, value in variables.items() if isinstance(value, str)}
    read = settings.read([], {**texts, "POD_NAME": "stoker-operator-0", "POD_NAMESPACE": NAMESPACE})
    assert read == settings.OperatorSettings(
        redis_url=f"redis://stoker-redis.{NAMESPACE}.svc:6379/0",
        redis_secret="stoker-redis-password",
        gateway_secret="stoker-gateway-redis",
        tenant_credentials="Generated",
        namespace=NAMESPACE,
        installation=f"{NAMESPACE}/stoker-operator",
        watch_namespaces=("shop", "mail"),
        interval=1.0,
        port=9090,
        log_format="json",
        log_level="info",
        pod_namespace=NAMESPACE,
        identity="stoker-operator-0",
    )


@pytest.mark.parametrize("values", OWN_REDIS)
def test_an_own_redis_comes_from_a_secret(values: Object):
    objects = render(values)
    assert not of_kind(objects, "StatefulSet")
    secrets = of_kind(objects, "Secret")
    given = values["redis"].get("existingSecret")
    expected = given or {"name": "stoker-redis-url", "key": "url"}
    for pod in pods(objects).values():
        assert environment(pod)["STOKER_REDIS_URL"] == {"secretKeyRef": expected}
    if given:
        assert not secrets
    else:
        assert secrets["stoker-redis-url"]["stringData"] == {"url": values["redis"]["url"]}
        assert "pass@" not in str([each for each in objects if each["kind"] != "Secret"])


def test_a_changed_url_restarts_the_pods():
    def template(url: str) -> Object:
        objects = render({"redis": {"enabled": False, "url": url}})
        return dict(of_kind(objects, "Deployment")["stoker-gateway"]["spec"]["template"])

    assert template("redis://a:6379/0") != template("redis://b:6379/0")


@pytest.mark.parametrize(
    ("redis", "message"),
    [
        pytest.param({"enabled": False}, "No Redis: set redis.url or redis.existingSecret.name", id="none"),
        pytest.param({"url": "redis://a:6379/0"}, "More than one Redis", id="two"),
        pytest.param({"existingSecret": {"name": "a"}}, "More than one Redis", id="two, one in a Secret"),
    ],
)
def test_exactly_one_redis(redis: Object, message: str):
    assert message in refusal({"redis": redis})


def test_the_own_redis_keeps_what_it_acknowledged(tmp_path: Path):
    """A real server takes the chart's arguments, and is what Stoker asks for."""
    (container,) = of_kind(render(), "StatefulSet")["stoker-redis"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["valkey-server"]
    options = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert (options.pop("--port"), options.pop("--bind"), options["--dir"]) == ("6379", "*", "/data")
    options["--dir"] = str(tmp_path)
    options["--requirepass"] = "secret"
    with (
        running_valkey(*(text for option in options.items() for text in option)) as server,
        Redis.from_url(server.url, password="secret") as client,
    ):
        configured = client.config_get("append*", "maxmemory*", "save", "protected-mode")
    assert configured["appendonly"] == "yes"
    assert configured["appendfsync"] == "everysec"
    assert configured["maxmemory-policy"] == "noeviction"
    assert configured["maxmemory"] == str(256 * 1024**2)
    assert configured["protected-mode"] == "yes"
    assert configured["save"] == ""


def test_the_own_redis_may_have_a_volume():
    redis = of_kind(render(SETS["everything"]), "StatefulSet")["stoker-redis"]
    (claim,) = redis["spec"]["volumeClaimTemplates"]
    assert (claim["metadata"]["name"], claim["spec"]["storageClassName"]) == ("data", "fast")
    assert "volumes" not in redis["spec"]["template"]["spec"]
    assert redis["spec"]["template"]["spec"]["containers"][0]["command"] == ["redis-server"]


def test_the_gateway_leaves_replicas_to_an_autoscaler_if_asked():
    """Every upgrade would set the number of a HorizontalPodAutoscaler back."""
    numbers = {None: None, 0: 0, 3: 3}
    for given, expected in numbers.items():
        gateway = of_kind(render({"gateway": {"replicas": given}}), "Deployment")["stoker-gateway"]
        assert gateway["spec"].get("replicas") == expected
        assert ("replicas" in gateway["spec"]) is (given is not None)


def test_helm_finds_nothing_to_complain_about():
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rendered_manifests_are_up_to_date():
    done = subprocess.run([ROOT / "charts" / "render", "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_understand_their_environment():
    """Every variable that the chart gives the gateway and the test pod is one that the command reads."""
    commands = typer.main.get_command(build()).commands  # type: ignore[attr-defined]
    for name, pod in pods(render()).items():
        (container,) = pod["containers"]
        if container["name"] in {"gateway", "stats"}:
            command, *flags = container["args"]
            parameters = commands[command].params
            # The levels of logs are for those who run long.
            wanted = environment(pod).keys() - ({"STOKER_LOG_LEVEL", "STOKER_LOG_FORMAT"} if command == "stats" else set())
            assert wanted <= {parameter.envvar for parameter in parameters}, name
            assert set(flags) <= {option for parameter in parameters for option in parameter.opts}, name
