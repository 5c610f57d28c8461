"""The operator as a process, and what a user, a worker and the cluster's own controllers do around it."""

import asyncio
import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.queue.reads.inspector import Inspector
from stoker.queue.settlements import Settlement
from stoker.redis.connect import connect
from stoker.rules.admission import Admission
from stoker.rules.message import IdFactory, Message, encode_payload
from stoker.rules.settle import Succeed
from tests.operator.apiserver import ApiServer, process
from tests.redis_servers import free_port

FAST = {"backlogPerReplica": 10, "idleAfter": "1s", "scaleDown": {"stabilization": "1s"}}


def unique(name: str) -> str:
    """A name that no other test uses: all share one Redis, and the queue's name is the TaskQueue's."""
    return f"{name}-{secrets.token_hex(3)}"


async def until(what: Callable[[], Awaitable[Any]], seconds: float = 15.0) -> Any:
    """Poll until it gives something true, and return that. A failed assertion counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        last = False
        try:
            if found := await what():
                return found
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            last = time.monotonic() > deadline
        if last:
            raise AssertionError(f"not within {seconds:g}s: {what}")
        await asyncio.sleep(0.05)


@dataclass
class Operator:
    """The operator process: its log and its HTTP port."""

    log: Path
    port: int
    running: subprocess.Popen[bytes]

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextlib.contextmanager
def running_operator(server: ApiServer, redis_url: str, folder: Path, **settings: str) -> Iterator[Operator]:
    """An operator of its own whose watches have begun; fast, so that tests are."""
    with started_operator(server, redis_url, folder, **settings) as operator:
        ready(operator)
        yield operator


def ready(operator: Operator, seconds: float = 20) -> None:
    """Wait until its watches have begun."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{operator.port}/readyz").status_code == 200:
                return
        assert operator.running.poll() is None, operator.log.read_text()
        assert time.monotonic() < deadline, operator.log.read_text()
        time.sleep(0.05)


@contextlib.contextmanager
def started_operator(server: ApiServer, redis_url: str, folder: Path, **settings: str) -> Iterator[Operator]:
    """An operator that may not get ready."""
    port = free_port()
    env = {
        **os.environ,
        "KUBECONFIG": str(server.kubeconfig),
        "STOKER_REDIS_URL": redis_url,
        "STOKER_TENANT_CREDENTIALS": "Generated",
        "STOKER_INTERVAL": "200ms",
        "STOKER_RESYNC": "10m",  # so that the watches are what is tested
        "STOKER_CONFIG_INTERVAL": "300ms",
        "STOKER_REDIS_TIMEOUT": "1s",
        "STOKER_HOST": "127.0.0.1",
        "STOKER_PORT": str(port),
        "STOKER_LOG_FORMAT": "json",
        **settings,
    }
    log = folder / "operator.log"
    with process(log, sys.executable, "-m", "stoker_operator", env=env) as running:
        yield Operator(log, port, running)


class Cluster:
    """What a user, and the cluster's controllers, do to one namespace."""

    def __init__(self, http: httpx.AsyncClient, namespace: str) -> None:
        self.http = http
        self.namespace = namespace

    async def call(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        reply = await self.http.request(method, path, content=json.dumps(body) if body else None, headers={"Content-Type": content})
        assert reply.status_code < 300, f"{method} {path}: {reply.text}"
        return reply.json()

    def path(self, kind: str, name: str = "") -> str:
        group = {"taskqueues": "apis/stoker.dev/v1alpha1", "deployments": "apis/apps/v1", "events": "apis/events.k8s.io/v1"}
        group |= {"poddisruptionbudgets": "apis/policy/v1", "podmonitors": "apis/monitoring.coreos.com/v1"}
        return f"/{group.get(kind, 'api/v1')}/namespaces/{self.namespace}/{kind}/{name}".rstrip("/")

    async def apply(self, name: str, **spec: Any) -> Any:
        """`kubectl apply` of a TaskQueue."""
        spec = {"worker": {"image": "shop:1", "app": "shop:app"}} | spec
        manifest = {"apiVersion": "stoker.dev/v1alpha1", "kind": "TaskQueue", "metadata": {"name": name}, "spec": spec}
        path = self.path("taskqueues", name) + "?fieldManager=kubectl&force=true"
        return await self.call("PATCH", path, manifest, "application/apply-patch+yaml")

    async def get(self, kind: str, name: str) -> Any:
        return await self.call("GET", self.path(kind, name))

    async def create(self, kind: str, body: Any) -> Any:
        return await self.call("POST", self.path(kind), body)

    async def patch(self, kind: str, name: str, body: Any, subresource: str = "") -> Any:
        return await self.call("PATCH", self.path(kind, name) + subresource, body, "application/merge-patch+json")

    async def delete(self, kind: str, name: str) -> None:
        reply = await self.http.delete(self.path(kind, name))
        assert reply.status_code < 300, reply.text

    async def gone(self, name: str, seconds: float = 15.0) -> None:
        """Wait until a deleted TaskQueue is gone."""

        async def missing() -> bool:
            return (await self.http.get(self.path("taskqueues", name))).status_code == 404

        await until(missing, seconds)

    async def secret(self, name: str, **data: str) -> None:
        path = self.path("secrets", name) + "?fieldManager=kubectl&force=true"
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        await self.call("PATCH", path, body, "application/apply-patch+yaml")

    async def workers(self, name: str) -> Any:
        """The Deployment, once it is there and finished."""

        async def finished() -> Any:
            found = await self.get("deployments", f"{name}-worker")
            return found if "stoker.dev/template-hash" in found["metadata"].get("annotations", {}) else None

        return await until(finished)

    async def replicas(self, name: str, wanted: int) -> None:
        """Wait until the Deployment asks for so many."""

        async def asked_for() -> bool:
            found = (await self.get("deployments", f"{name}-worker"))["spec"]["replicas"]
            assert found == wanted, f"{found} replicas, not {wanted}"
            return True

        await until(asked_for)

    async def condition(self, name: str, kind: str, status: str, reason: str) -> Any:
        """Wait for a condition, and return it."""

        async def holds() -> Any:
            found = (await self.get("taskqueues", name)).get("status", {}).get("conditions", [])
            assert any((c["type"], c["status"], c["reason"]) == (kind, status, reason) for c in found), found
            return next(c for c in found if c["type"] == kind)

        return await until(holds)

    async def told(self, name: str, *reasons: str) -> None:
        """Wait for exactly these Events about a TaskQueue, in this order."""

        async def all_of_them() -> bool:
            found = (await self.call("GET", self.path("events")))["items"]
            mine = [event for event in found if event["regarding"]["name"] == name]
            told = [event["reason"] for event in sorted(mine, key=lambda event: event["eventTime"])]
            assert told == list(reasons), told
            return True

        await until(all_of_them)


class Queue:
    """A client and a worker of one queue, in a few words."""

    def __init__(self, url: str, namespace: str, queue: str) -> None:
        self._redis = connect(url)
        self._ids = IdFactory()
        self.broker = Broker(self._redis, Keys(namespace, queue))
        self.inspector = Inspector(self._redis, namespace)
        self.queue = queue

    async def enqueue(self, count: int) -> None:
        now = int(time.time() * 1000)
        payload = encode_payload({})
        messages = [Message(self._ids(), "noop", payload, self.queue, now) for _ in range(count)]
        await self.broker.enqueue([Admission(message) for message in messages])

    async def drain(self) -> int:
        """Run everything, as a worker would. Returns how many tasks there were."""
        done = 0
        while deliveries := (await self.broker.turn([], 200, "test-worker")).deliveries:
            await self.broker.turn([Settlement(each.id, each.fence, Succeed(b"null")) for each in deliveries], 0, "test-worker")
            done += len(deliveries)
        await self.broker.forget_worker("test-worker")
        return done

    async def close(self) -> None:
        await self._redis.aclose()


Queues = Callable[..., Queue]
"""Opens a queue of the test's namespace by its name, in the shared Redis or in the one whose URL is given."""
