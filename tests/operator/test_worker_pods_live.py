"""Fields that shape the worker pods, changed on a TaskQueue that is served: the Deployment follows, field by field."""

from collections.abc import Callable
from typing import Any

from tests.operator.operating import Cluster, until

BASE = {"image": "shop:1", "app": "shop:app"}


def spec_of(deployment: Any) -> Any:
    return deployment["spec"]["template"]["spec"]


def worker_of(deployment: Any) -> Any:
    return spec_of(deployment)["containers"][0]


async def seen(cluster: Cluster, name: str, looks: Callable[[Any], Any], wanted: Any) -> None:
    async def so() -> bool:
        found = looks(await cluster.get("deployments", f"{name}-worker"))
        assert found == wanted, found
        return True

    await until(so)


PROXY = {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}
CONFIG = {"name": "config", "configMap": {"name": "shop", "defaultMode": 420}}
MOUNTS = [{"name": "config", "mountPath": "/etc/shop"}, {"name": "config", "mountPath": "/etc/more", "subPath": "more"}]
SPREAD = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}


POD: dict[str, Any] = {
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccountName": "s3-reader",
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "topologySpreadConstraints": [SPREAD],
    "priorityClassName": "batch",
    "runtimeClassName": "gvisor",
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
    "dnsPolicy": "Default",
}


async def test_each_field_of_the_pod_reaches_the_workers_and_leaves_them(cluster: Cluster) -> None:
    await cluster.apply("shaped", worker=BASE)
    plain = spec_of(await cluster.workers("shaped"))
    for field, value in POD.items():
        await cluster.apply("shaped", worker={**BASE, "template": {"spec": {field: value}}})
        await seen(cluster, "shaped", lambda found, field=field: spec_of(found).get(field), value)
    await cluster.apply("shaped", worker=BASE)
    await seen(cluster, "shaped", spec_of, plain)


async def test_containers_volumes_and_metadata_come_and_go_and_nothing_is_applied_twice(cluster: Cluster) -> None:
    await cluster.apply("whole", worker=BASE)
    plain = await cluster.workers("whole")
    template = {
        "metadata": {"labels": {"team": "payments"}, "annotations": {"note": "two words"}},
        "spec": {
            "initContainers": [PROXY],
            "containers": [
                {
                    "name": "worker",
                    "env": [{"name": "MODE", "value": "fast"}],
                    "volumeMounts": MOUNTS,
                    "securityContext": {"readOnlyRootFilesystem": False},
                }
            ],
            "volumes": [CONFIG, {"name": "tmp", "emptyDir": {"medium": "Memory"}}],
            "securityContext": {"fsGroup": 2000},
        },
    }
    await cluster.apply("whole", worker={**BASE, "template": template})
    await seen(cluster, "whole", lambda found: [each["name"] for each in spec_of(found).get("initContainers", ())], ["proxy"])
    shaped = await cluster.get("deployments", "whole-worker")
    assert shaped["spec"]["template"]["metadata"]["labels"]["team"] == "payments"
    assert [each["mountPath"] for each in worker_of(shaped)["volumeMounts"]] == ["/tmp", "/etc/shop", "/etc/more"]
    assert {"name": "MODE", "value": "fast"} in worker_of(shaped)["env"]
    assert worker_of(shaped)["securityContext"]["readOnlyRootFilesystem"] is False
    assert spec_of(shaped)["securityContext"]["fsGroup"] == 2000
    assert CONFIG in spec_of(shaped)["volumes"]
    # A write of another wakes the operator, which finds nothing to put right.
    await cluster.patch("deployments", "whole-worker", {"metadata": {"annotations": {"other": "1"}}})
    await cluster.apply("whole", worker={**BASE, "template": template}, rateLimit={"perSecond": 5, "burst": 5})
    await seen(
        cluster, "whole", lambda found: next(e["value"] for e in worker_of(found)["env"] if e["name"] == "STOKER_RATE_LIMIT"), "5"
    )
    # Two: another annotation counts as a version of a Deployment.
    assert (await cluster.get("deployments", "whole-worker"))["metadata"]["generation"] == shaped["metadata"]["generation"] + 2

    await cluster.apply("whole", worker=BASE)
    await seen(cluster, "whole", lambda found: found["spec"]["template"], plain["spec"]["template"])


async def test_the_strategy_of_a_rollout(cluster: Cluster) -> None:
    await cluster.apply("rolling", worker=BASE)
    usual = (await cluster.workers("rolling"))["spec"]["strategy"]["rollingUpdate"]
    assert usual == {"maxSurge": "25%", "maxUnavailable": 0}
    await cluster.apply("rolling", worker={**BASE, "strategy": {"maxSurge": 0, "maxUnavailable": "50%"}})
    wanted = {"maxSurge": 0, "maxUnavailable": "50%"}
    await seen(cluster, "rolling", lambda found: found["spec"]["strategy"]["rollingUpdate"], wanted)


async def test_a_template_that_is_refused_leaves_the_workers_and_a_huge_one_can_be_deleted(cluster: Cluster) -> None:
    await cluster.apply("huge", worker=BASE)
    before = await cluster.workers("huge")
    await cluster.apply("huge", worker={**BASE, "template": {"spec": {"subdomain": "x"}}})
    ready = await cluster.condition("huge", "Ready", "False", "InvalidSpec")
    assert "spec.worker.template.spec.subdomain is refused" in ready["message"]

    await cluster.apply("huge", worker={**BASE, "template": {"metadata": {"annotations": {"a": "x" * 500_000}}}})

    async def too_large() -> bool:
        return "more than 65536" in (await cluster.condition("huge", "Ready", "False", "InvalidSpec"))["message"]

    await until(too_large)
    assert (await cluster.get("deployments", "huge-worker"))["spec"] == before["spec"]
    found = await cluster.get("taskqueues", "huge")
    assert not [each for each in found["metadata"].get("finalizers", ()) if "kopf" in each]
    assert not [key for key in found["metadata"].get("annotations", {}) if "last-handled" in key]
    await cluster.delete("taskqueues", "huge")

    async def gone() -> bool:
        left = (await cluster.call("GET", cluster.path("taskqueues")))["items"]
        return not left

    await until(gone)
