"""An API server that has been given k8s/install.yaml."""

from collections.abc import Iterator

import pytest

from tests.chart.kubeapi import ApiServer, running_api_server
from tests.chart.rendering import ROOT


@pytest.fixture(scope="session")
def installed() -> Iterator[ApiServer]:
    """An API server with everything of k8s/install.yaml, as `kubectl apply` puts it there."""
    with running_api_server() as server:
        done = server.kubectl("apply", "--server-side", "-f", str(ROOT / "k8s" / "install.yaml"))
        assert done.returncode == 0, done.stderr
        done = server.kubectl("wait", "--for=condition=Established", "--timeout=20s", "crd/taskqueues.stoker.dev")
        assert done.returncode == 0, done.stderr
        yield server
