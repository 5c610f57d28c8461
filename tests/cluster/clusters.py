"""Where the tests' pods run: a node of our own, or the cluster that KUBECONFIG names. The only module here that starts programs."""

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
NODE = HERE / "node" / "node"
CRD = "taskqueues.stoker.dev"
PAUSE = 0.2

T = TypeVar("T")
Object = dict[str, Any]

IMAGES = {
    "stoker.dev/worker:0.1.0": (".", "Dockerfile.worker"),
    "stoker.dev/operator:0.1.0": (".", "Dockerfile.operator"),
    "stoker.dev/examples/shop:0.1.0": ("examples/shop", "examples/shop/Dockerfile"),
    "stoker.dev/test/redis:1": ("tests/cluster", "tests/cluster/redis.Dockerfile"),
    "stoker.dev/test/script:1": ("tests/cluster", "tests/cluster/script.Dockerfile"),
}
"""Tag -> build context and Dockerfile, in the order in which they build on each other."""


def eventually(look: Callable[[], T | None], within: float, what: str) -> T:
    """What `look` returns once it is truthy. AssertionError with the last answer after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}; last seen: {found!r}")
        time.sleep(PAUSE)
    return found


class Cluster:
    """A cluster, seen from one namespace. `inside` is what commands are prefixed with to reach its services.

    `provide` builds an image from a context and a Dockerfile, and gives it to the cluster: (tag, context, dockerfile).
    """

    provide: Callable[[str, str, str], None]

    def __init__(self, namespace: str, inside: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self.namespace = namespace
        self.own = bool(inside)
        self._inside = tuple(inside)
        self._environment = {**os.environ, **(environment or {})}

    def elsewhere(self, namespace: str) -> "Cluster":
        """The same cluster, seen from another namespace."""
        other = Cluster(namespace, self._inside)
        other._environment, other.provide = self._environment, self.provide
        return other

    def run(
        self, *command: str, given: str | None = None, within: float = 120, environment: Mapping[str, str] | None = None
    ) -> str:
        """What a command printed. AssertionError with all it said when it fails."""
        done = subprocess.run(
            [*self._inside, *command],
            input=given,
            env={**self._environment, **(environment or {})},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def python(self, script: Path, *arguments: str, environment: Mapping[str, str]) -> str:
        """Run a program of the user's own, with the libraries of this test."""
        return self.run(sys.executable, str(script), *arguments, environment=environment)

    def kubectl(self, *arguments: str, given: str | None = None, within: float = 120) -> str:
        """kubectl in the namespace."""
        return self.run("kubectl", "--namespace", self.namespace, *arguments, given=given, within=within)

    def helm(self, *arguments: str, within: float = 300) -> str:
        """helm in the namespace."""
        return self.run("helm", "--namespace", self.namespace, *arguments, within=within)

    def get(self, kind: str, name: str) -> Object | None:
        """The object, or None where there is none."""
        found = self.kubectl("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found else None

    def all(self, kind: str, selector: str = "") -> list[Object]:
        """All objects of a kind that carry the labels."""
        items: list[Object] = json.loads(self.kubectl("get", kind, "-l", selector, "-o", "json"))["items"]
        return items

    def credentials(self) -> dict[str, str]:
        """The Secret `stoker-redis` of the namespace, decoded, once it is there."""
        found = eventually(lambda: self.get("secret", "stoker-redis"), 60, f"Secret stoker-redis in {self.namespace}")
        return {key: base64.b64decode(value).decode() for key, value in found["data"].items()}

    def redis(self, *command: str) -> Any:
        """The answer of the release's Redis to one command, decoded."""
        return json.loads(self.kubectl("exec", "stoker-redis-0", "--", "valkey-cli", "--json", *command))

    @contextmanager
    def watch(self, *arguments: str) -> Iterator[list[tuple[float, str]]]:
        """A list that fills with the lines of `kubectl get --watch ...` and when they came."""
        lines: list[tuple[float, str]] = []
        command = [*self._inside, "kubectl", "--namespace", self.namespace, "get", "--watch", *arguments]
        with _background(command, self._environment, lambda line: lines.append((time.monotonic(), line.rstrip()))):
            yield lines

    @contextmanager
    def reach(self, service: str, port: int) -> Iterator[str]:
        """host:port at which a program on this side can reach a Service."""
        if self.own:
            yield f"{self.kubectl('get', 'service', service, '-o', 'jsonpath={.spec.clusterIP}')}:{port}"
            return
        found: list[str] = []
        command = ["kubectl", "--namespace", self.namespace, "port-forward", f"service/{service}", f":{port}"]
        with _background(command, self._environment, lambda line: found.extend(re.findall(r"from (127\.0\.0\.1:\d+)", line))):
            eventually(lambda: found, 20, f"port-forward to {service}")
            yield found[0]


@contextmanager
def _background(command: Sequence[str], environment: Mapping[str, str], hear: Callable[[str], object]) -> Iterator[None]:
    """A program that runs meanwhile, each line of it heard by a thread."""
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        lines = process.stdout

        def listen() -> None:
            for line in lines:
                hear(line)

        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield
        finally:
            process.terminate()
            listener.join(10)
            process.kill()  # closing its pipe would wait for the listener, and that one for a program that stays


@contextmanager
def own_node(namespace: str) -> Iterator[Cluster]:
    """A node that exists for this run only, with all images."""
    state = os.environ.get("CLUSTER_STATE", f"/tmp/stoker-cluster-{os.getpid()}")
    name = os.environ.get("CLUSTER_NAME", f"stoker-{os.getpid()}")
    environment = {"CLUSTER_STATE": state, "CLUSTER_NAME": name}
    cluster = Cluster(namespace, [str(NODE), "run"], environment)
    node = Cluster(namespace, environment=environment)

    def build(tag: str, context: str, dockerfile: str) -> None:
        node.run(str(NODE), "image", context, tag, "-f", dockerfile, within=900)

    def load(tag: str) -> None:
        node.run(str(NODE), "load", tag)

    def provide(tag: str, context: str, dockerfile: str) -> None:
        build(tag, context, dockerfile)
        load(tag)

    cluster.provide = provide
    try:
        for tag, (context, dockerfile) in IMAGES.items():
            build(tag, context, dockerfile)
        node.run(str(NODE), "up", within=300)
        for tag in IMAGES:
            load(tag)
        volume(Path(state), cluster)
        yield cluster
    finally:
        node.run(str(NODE), "down")
        assert not leftovers(state, name), f"the node left something behind: {leftovers(state, name)}"


def volume(state: Path, cluster: Cluster) -> None:
    """A volume for the release's Redis: the node has nothing that makes one when asked."""
    place = state / "volumes" / "redis"
    place.mkdir(parents=True)
    os.chown(place, 999, 999)
    manifest = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": "redis"},
        "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": str(place)}},
    }
    cluster.kubectl("apply", "-f", "-", given=json.dumps(manifest))


def leftovers(state: str, name: str) -> list[str]:
    """Processes, mounts, namespaces, cgroups and files of a node that is down."""
    found = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {state}" in line]
    found += [str(place) for place in (Path(state), Path("/run/netns", name)) if place.exists()]
    found += [str(place) for root in ("*", "*/*") for place in Path("/sys/fs/cgroup").glob(root) if place.name == name]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if state.encode() in process.read_bytes():
                found.append(f"process {process.parent.name}")
        except OSError:  # it has just ended
            continue
    return found


@contextmanager
def given_cluster(namespace: str) -> Iterator[Cluster]:
    """The cluster of KUBECONFIG. RuntimeError where the tests would do harm or could not work."""
    cluster = Cluster(namespace)
    if cluster.run("kubectl", "get", "crd", CRD, "--ignore-not-found"):
        raise RuntimeError(
            "this cluster has Stoker already, and the tests remove it with every TaskQueue: use another, or delete the CRD first"
        )
    loader = os.environ.get("STOKER_LOAD_IMAGE")
    if not loader and not os.environ.get("STOKER_IMAGES_LOADED"):
        raise RuntimeError(
            "KUBECONFIG is set, so that cluster is used; say how images get there: "
            'STOKER_LOAD_IMAGE="kind load docker-image" builds them with docker and hands each tag to that command, '
            f"STOKER_IMAGES_LOADED=1 says that the cluster has {', '.join(IMAGES)}"
        )

    def provide(tag: str, context: str, dockerfile: str) -> None:
        if loader:
            cluster.run("docker", "build", "-f", dockerfile, "-t", tag, context, within=900)
            cluster.run(*shlex.split(loader), tag, within=300)

    cluster.provide = provide
    for tag, (context, dockerfile) in IMAGES.items():
        provide(tag, context, dockerfile)
    yield cluster
