"""Labels of people on Deployment and pods, and pods that drain, on a real API server."""

from typing import Any

from tests.operator.operating import Cluster, unique, until


async def test_labels_reach_the_deployment_and_its_pods_and_leave_them_again(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, worker={"image": "shop:1", "labels": {"cost": "7"}, "annotations": {"note": "two words"}})
    before = await cluster.workers(name)
    await cluster.patch("taskqueues", name, {"metadata": {"labels": {"example.org/team": "payments", "helm.sh/chart": "shop-1"}}})

    async def labels() -> dict[str, Any]:
        return dict((await cluster.get("deployments", f"{name}-worker"))["metadata"]["labels"])

    async def inherited() -> bool:
        return (await labels()).get("example.org/team") == "payments"

    async def bereft() -> bool:
        return "example.org/team" not in await labels()

    await until(inherited)
    assert "helm.sh/chart" not in await labels()
    template = (await cluster.get("deployments", f"{name}-worker"))["spec"]["template"]
    assert template == before["spec"]["template"]  # or all workers would be replaced
    assert template["metadata"]["labels"]["cost"] == "7"
    assert template["metadata"]["annotations"]["note"] == "two words"

    await cluster.patch("taskqueues", name, {"metadata": {"labels": {"example.org/team": None}}})
    await until(bereft)
    await cluster.apply(name, worker={"image": "shop:1"})

    async def of_the_pods_too() -> bool:
        metadata = (await cluster.get("deployments", f"{name}-worker"))["spec"]["template"]["metadata"]
        return "cost" not in metadata["labels"] and "note" not in metadata["annotations"]

    await until(of_the_pods_too)


async def test_pods_that_drain_are_counted(cluster: Cluster) -> None:
    name = unique("emails")
    await cluster.apply(name, scaling={"minReplicas": 2, "maxReplicas": 2})
    generation = (await cluster.workers(name))["metadata"]["generation"]
    status = {"replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "terminatingReplicas": 4, "observedGeneration": generation}
    await cluster.patch("deployments", f"{name}-worker", {"status": status}, "/status")
    ready = await cluster.condition(name, "Ready", "True", "WorkersReady")
    assert ready["message"] == "2 of 2 workers ready; 4 more drain"
    assert (await cluster.get("taskqueues", name))["status"]["drainingReplicas"] == 4
