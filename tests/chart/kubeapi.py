"""A real kube-apiserver with its etcd and nothing else: what it is told is checked and stored, and no pod ever runs."""

import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.built_programs import binary
from tests.redis_servers import free_port

STARTS_WITHIN = 60.0
ENDS_WITHIN = 10.0
PAUSE = 0.1


class ApiServer:
    """An API server whose `kubectl` speaks as an administrator."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kube = binary("kube")
        self._etcd, self._peers, self._port = free_port(), free_port(), free_port()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both servers, from ready until the end of the block. Raises RuntimeError with their last words when they do not start."""
        token = secrets.token_hex(16)
        (self._folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
        (self._folder / "kubeconfig").write_text(self._kubeconfig(token))
        subprocess.run(["openssl", "genrsa", "-out", self._folder / "sa.key", "2048"], check=True, capture_output=True)
        with ExitStack() as started:
            for arguments in (self._etcd_arguments(), self._server_arguments()):
                started.enter_context(self._process(*arguments))
            deadline = time.monotonic() + STARTS_WITHIN
            while (answer := self.kubectl("get", "--raw", "/readyz")).returncode:
                if time.monotonic() > deadline:
                    said = "\n".join(path.read_text()[-2000:] for path in self._folder.glob("*.log"))
                    raise RuntimeError(f"kube-apiserver is not ready: {answer.stderr}\n{said}")
                time.sleep(PAUSE)
            yield

    def kubectl(self, *arguments: str, given: Any = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, with an object (or a list of them) on its standard input for `-f -`."""
        documents = given if isinstance(given, list) else [given]
        return subprocess.run(
            [self._kube, "kubectl", f"--kubeconfig={self._folder}/kubeconfig", f"--cache-dir={self._folder}/cache", *arguments],
            input=yaml.safe_dump_all(documents) if given else "",
            capture_output=True,
            text=True,
            timeout=60,
        )

    @contextmanager
    def _process(self, part: str, *arguments: str) -> Iterator[None]:
        with (self._folder / f"{part}.log").open("wb") as log:
            process = subprocess.Popen([self._kube, part, *arguments], stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(ENDS_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(ENDS_WITHIN)

    def _etcd_arguments(self) -> list[str]:
        clients, peers = (f"http://127.0.0.1:{port}" for port in (self._etcd, self._peers))
        return [
            "etcd",
            f"--data-dir={self._folder}/etcd",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            "--unsafe-no-fsync",
            "--log-level=error",
        ]

    def _server_arguments(self) -> list[str]:
        return [
            "apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--cert-dir={self._folder}/certificates",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--service-account-key-file={self._folder}/sa.key",
            f"--service-account-signing-key-file={self._folder}/sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--token-auth-file={self._folder}/tokens.csv",
            "--authorization-mode=RBAC",
            # No controller makes the default service accounts, and without them no pod object may be made.
            "--disable-admission-plugins=ServiceAccount",
        ]

    def _kubeconfig(self, token: str) -> str:
        cluster = {"server": f"https://127.0.0.1:{self._port}", "insecure-skip-tls-verify": True}
        return yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "admin", "user": {"token": token}}],
            }
        )


@contextmanager
def running_api_server() -> Iterator[ApiServer]:
    """A server of one's own, whose data is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="apiserver-") as folder:
        server = ApiServer(Path(folder))
        with server.running():
            yield server
