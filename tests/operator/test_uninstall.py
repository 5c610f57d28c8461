"""`helm uninstall`, and the namespaces that are deleted after it, with Kubernetes' own namespace and garbage controllers.

There is no node: the test runs the operator and the hook's Job as processes, with the rights of the release's service account.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.built_programs import binary
from tests.operator.apiserver import ROOT, ApiServer, process, running_api_server, unverified
from tests.operator.conftest import namespace_in
from tests.operator.operating import Cluster, running_operator, unique, until
from tests.redis_servers import Valkey

pytestmark = pytest.mark.nightly


@contextlib.contextmanager
def controlled_server(folder: Path) -> Iterator[ApiServer]:
    """An API server of its own whose namespaces end, and whose garbage is collected."""
    with running_api_server(folder) as server:
        admin = folder / "admin"
        text = yaml.safe_load(server.kubeconfig.read_text())
        text["users"][0]["user"]["token"] = server.token
        admin.write_text(yaml.safe_dump(text))
        command = [binary("kube"), "controllers", f"--kubeconfig={admin}", "--leader-elect=false", "--secure-port=0"]
        with process(folder / "controllers.log", *command, "--controllers=namespace-controller,garbage-collector-controller"):
            yield server


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


async def account_kubeconfig(server: ApiServer, release: Cluster, folder: Path) -> Path:
    path = release.path("serviceaccounts", "stoker-operator") + "/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = (await release.call("POST", path, body))["status"]["token"]
    text = yaml.safe_load(server.kubeconfig.read_text())
    text["users"][0]["user"]["token"] = token
    made = folder / "account"
    made.write_text(yaml.safe_dump(text))
    return made


async def test_nothing_is_left_of_a_release_and_its_taskqueues(shared_valkey: Valkey, tmp_path: Path) -> None:
    name, url = unique("emails"), shared_valkey.url
    with controlled_server(tmp_path) as server:
        async with namespace_in(server) as release, namespace_in(server) as shop:
            access = [f"--kube-apiserver={server.url}", f"--kube-token={server.token}", "--kube-insecure-skip-tls-verify"]
            helm = [binary("helm"), *access, "--namespace", release.namespace]
            values = ["--set", f"redis.enabled=false,redis.url={url},gateway.enabled=false,crds.install=false"]
            chart = str(ROOT / "charts" / "stoker")
            await asyncio.to_thread(_checked, [*helm, "install", "stoker", chart, *values, "--wait=hookOnly"])
            account = await account_kubeconfig(server, release, tmp_path)
            installation = {"STOKER_INSTALLATION": f"{release.namespace}/stoker-operator", "KUBECONFIG": str(account)}
            env = {**installation, "POD_NAMESPACE": release.namespace, "STOKER_TENANT_CREDENTIALS": "Provided"}
            with running_operator(server, url, tmp_path, **env) as operator:
                await shop.secret("redis", url=url)
                await shop.apply(name, replicas=1, redis={"urlSecretRef": {"name": "redis"}})

                async def held() -> bool:
                    return bool((await shop.get("taskqueues", name))["metadata"].get("finalizers"))

                await until(held)
                leaving = await asyncio.create_subprocess_exec(*helm, "uninstall", "stoker", "--timeout=120s")
                await _hook(release, operator.running, {**os.environ, **installation})
                assert await asyncio.wait_for(leaving.wait(), 60) == 0
            assert "finalizers" not in (await shop.get("taskqueues", name))["metadata"]
            for each in (shop, release):
                await each.call("DELETE", f"/api/v1/namespaces/{each.namespace}")
            began = time.monotonic()
            for each in (shop, release):
                await until(lambda gone=each: _namespace_gone(server, gone.namespace), 60)
            print(f"both namespaces gone after {time.monotonic() - began:.1f} s")


async def _hook(release: Cluster, operator: subprocess.Popen[bytes], env: dict[str, str]) -> None:
    """What a kubelet and the controllers of Jobs and Deployments do."""
    jobs = f"/apis/batch/v1/namespaces/{release.namespace}/jobs/stoker-uninstall"

    async def made() -> Any:
        return (await release.http.get(jobs)).status_code == 200

    await until(made, 30)
    hook = await asyncio.create_subprocess_exec(sys.executable, "-m", "stoker_operator", "uninstall", env=env)

    async def stopped() -> bool:
        return bool((await release.get("deployments", "stoker-operator"))["spec"]["replicas"] == 0)

    await until(stopped, 30)
    operator.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(hook.wait(), 60) == 0
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    done = [{"type": kind, "status": "True", "lastTransitionTime": now} for kind in ("SuccessCriteriaMet", "Complete")]
    status = {"startTime": now, "completionTime": now, "succeeded": 1, "conditions": done}
    await release.call("PATCH", f"{jobs}/status", {"status": status}, "application/merge-patch+json")


async def _namespace_gone(server: ApiServer, namespace: str) -> bool:
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, verify=unverified()) as http:
        return (await http.get(f"/api/v1/namespaces/{namespace}")).status_code == 404
