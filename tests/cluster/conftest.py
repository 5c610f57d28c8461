"""One cluster for the whole run, with the chart installed; what went wrong is explained from the cluster's own words."""

import os
import time
from collections.abc import Generator, Iterator

import pytest

from tests.cluster.clusters import CHECKOUT, CRD, Cluster, eventually, given_cluster, own_node
from tests.cluster.diagnosis import diagnosis

NAMESPACE = "stoker-cluster-test"
VALUES = (
    "redis.image=stoker.dev/test/redis:1",
    "redis.imagePullPolicy=IfNotPresent",
    "redis.persistence.enabled=true",
)

_report: list[str] = []


@pytest.fixture(scope="session")
def report() -> list[str]:
    """Lines for the end of the run: what was measured, none of it asserted."""
    return _report


@pytest.fixture(scope="session")
def cluster(report: list[str]) -> Iterator[Cluster]:
    """A cluster that has the images."""
    began = time.monotonic()
    with given_cluster(NAMESPACE) if os.environ.get("KUBECONFIG") else own_node(NAMESPACE) as found:
        report.append(f"images built and the cluster up after {time.monotonic() - began:.1f} s")
        yield found


@pytest.fixture(scope="session")
def namespace(cluster: Cluster) -> Iterator[str]:
    """A place for the release. Its own fixture, so that what could not be installed is still there to be asked why."""
    cluster.run("kubectl", "create", "namespace", NAMESPACE)
    try:
        # Whatever the chart or the operator starts must be a pod that the strictest standard admits.
        cluster.run("kubectl", "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        yield NAMESPACE
    finally:
        # The TaskQueues before the operator, so that nobody is left to wait for it. The chart keeps its CRD, tests do not.
        cluster.run("kubectl", "delete", "crd", CRD, "--ignore-not-found", "--timeout=60s")
        cluster.helm("uninstall", "stoker", "--ignore-not-found")
        cluster.run("kubectl", "delete", "namespace", NAMESPACE, "--timeout=100s")


@pytest.fixture(scope="session")
def installed(cluster: Cluster, namespace: str, report: list[str]) -> float:
    """The release `stoker`, as the README installs it. The moment at which `helm install` was called."""
    began = time.monotonic()
    cluster.helm("install", "stoker", str(CHECKOUT / "charts" / "stoker"), *(f"--set={value}" for value in VALUES))
    for workload in ("statefulset/stoker-redis", "deployment/stoker-gateway", "deployment/stoker-operator"):
        cluster.kubectl("rollout", "status", workload, "--timeout=120s", within=150)
    report.append(f"helm install: everything ready after {time.monotonic() - began:.1f} s")
    return began


@pytest.fixture
def gone(cluster: Cluster, installed: float) -> Iterator[None]:
    """Each test leaves no TaskQueue behind for the next."""
    yield
    cluster.kubectl("delete", "taskqueues", "--all", "--timeout=60s")
    eventually(lambda: not cluster.all("pods", "app.kubernetes.io/name=stoker-worker"), 120, "the workers' pods are gone")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What removes the release comes last."""
    items.sort(key=lambda item: "uninstall" in item.name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is shown with what the cluster says about it, while the cluster is still there."""
    outcome = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if outcome.failed and isinstance(cluster, Cluster):
        outcome.sections.append(("what the cluster says", diagnosis(cluster)))
    return outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The measurements."""
    if _report:
        terminalreporter.section("on the cluster")
        terminalreporter.write("\n".join(_report) + "\n")
