"""A real API server on loopback: etcd and kube-apiserver out of the one binary that the cluster tests build. No nodes."""

import contextlib
import json
import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from tests.operator.rights import ELECTION, RIGHTS, rules
from tests.redis_servers import free_port

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("CLUSTER_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stoker-cluster")
KUBE = CACHE / "bin" / "kube"

RULES = rules(RIGHTS + ELECTION)
"""Exactly what the operator may do; the tests fail when it needs more."""

# Who asked for what, of the operators alone.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": ["operator", "tenant"]}, {"level": "None"}],
}


class Request(NamedTuple):
    """A request of an operator, as the API server recorded it. `kind` is group/resource; `namespace` empty for all."""

    user: str
    verb: str
    kind: str
    namespace: str
    name: str
    code: int


@dataclass
class ApiServer:
    url: str
    token: str
    kubeconfig: Path  # of a user who may do everywhere what the chart lets the operator do
    tenant: Path  # of one who may do so only where a RoleBinding says it
    audit: Path

    def requests(self, since: int = 0) -> list[Request]:
        """What the operators asked for, from this position of the audit log on. Discovery is left out."""
        with self.audit.open() as log:
            log.seek(since)
            return [_request(found) for found in map(json.loads, log) if "resource" in found.get("objectRef", {})]


@contextlib.contextmanager
def running_api_server(folder: Path, *flags: str) -> Iterator[ApiServer]:
    """One with the TaskQueue resource and the operator's rights installed."""
    if not KUBE.exists():
        raise RuntimeError(f"{KUBE} is missing: tests/cluster/prepare apiserver builds it")
    tokens = {name: secrets.token_hex(16) for name in ("admin", "operator", "tenant")}
    groups = {"admin": "system:masters", "operator": "stoker", "tenant": "stoker"}
    (folder / "tokens.csv").write_text("".join(f'{token},{name},{name},"{groups[name]}"\n' for name, token in tokens.items()))
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    etcd, peer, port = free_port(), free_port(), free_port()
    start_etcd: list[str | Path] = [KUBE, "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "error"]
    start_etcd += ["--listen-client-urls", f"http://127.0.0.1:{etcd}", "--advertise-client-urls", f"http://127.0.0.1:{etcd}"]
    start_etcd += ["--listen-peer-urls", f"http://127.0.0.1:{peer}"]
    start_api: list[str | Path] = [
        KUBE,
        "apiserver",
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--secure-port={port}",
        f"--cert-dir={folder}",
    ]
    start_api += ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16"]
    start_api += [f"--service-account-key-file={folder}/sa.key", f"--service-account-signing-key-file={folder}/sa.key"]
    start_api += ["--service-account-issuer=https://kubernetes.default.svc", f"--token-auth-file={folder}/tokens.csv"]
    # No controller makes the default service accounts, and without them no pod object may be made.
    start_api += ["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"]
    (folder / "audit.yaml").write_text(yaml.safe_dump(AUDIT))
    start_api += [f"--audit-policy-file={folder}/audit.yaml", f"--audit-log-path={folder}/audit.log", *flags]
    with process(folder / "etcd.log", *start_etcd), process(folder / "apiserver.log", *start_api) as running:
        kubeconfigs = folder / "kubeconfig", folder / "tenant"
        server = ApiServer(f"https://127.0.0.1:{port}", tokens["admin"], *kubeconfigs, folder / "audit.log")
        _until_ready(server, running, folder / "apiserver.log")
        server.kubeconfig.write_text(_kubeconfig(server.url, tokens["operator"]))
        server.tenant.write_text(_kubeconfig(server.url, tokens["tenant"]))
        _install(server)
        yield server


def _request(found: dict[str, Any]) -> Request:
    about = found["objectRef"]
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    kind = f"{about.get('apiGroup', '')}/{resource}"
    code = found.get("responseStatus", {}).get("code", 0)
    return Request(found["user"]["username"], found["verb"], kind, about.get("namespace", ""), about.get("name", ""), code)


def _kubeconfig(url: str, token: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "operator"}}],
            "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "operator", "user": {"token": token}}],
        }
    )


def _admin(server: ApiServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.token}"}, verify=unverified(), timeout=10)


def unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _until_ready(server: ApiServer, running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    with _admin(server) as admin:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if admin.get("/readyz").status_code == 200:
                    return
            assert running.poll() is None, f"kube-apiserver ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"kube-apiserver did not get ready: {log.read_text()[-2000:]}"
            time.sleep(0.1)


def _install(server: ApiServer) -> None:
    crd = yaml.safe_load((ROOT / "charts/stoker/files/crd.yaml").read_text())
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "operator"}, "rules": RULES}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "operator"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "operator"}],
    }
    with _admin(server) as admin:
        for path, body in (
            ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd),
            ("/apis/rbac.authorization.k8s.io/v1/clusterroles", role),
            ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding),
        ):
            reply = admin.post(path, json=body)
            assert reply.status_code == 201, reply.text
        deadline = time.monotonic() + 20
        while admin.get("/apis/stoker.dev/v1alpha1/taskqueues").status_code != 200:
            assert time.monotonic() < deadline, "the API server does not serve TaskQueues"
            time.sleep(0.05)


@contextlib.contextmanager
def process(log: Path, *command: str | Path, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the length of the block, its output in `log`."""
    with log.open("ab") as output:
        running = subprocess.Popen([str(part) for part in command], stdout=output, stderr=output, env=env)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
