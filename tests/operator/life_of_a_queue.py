"""The life of a TaskQueue from its creation to its deletion and second creation, and what it leaves, in a form that compares."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from stoker.queue.keys import Keys
from stoker.redis.client import Routed
from stoker.redis.connect import connect
from stoker.redis.users import user_names
from tests.operator.apiserver import ApiServer
from tests.operator.conftest import namespace_in
from tests.operator.kube_proxy import KubeProxy, proxy_to
from tests.operator.operating import FAST, Cluster, Queue, until
from tests.operator.operator_forks import Forked, Forker
from tests.operator.redis_cuts import RedisCuts
from tests.redis_servers import Server

NAME = "emails"
RESTORES_WITHIN = 30.0
"""Seconds for the state to be right again after a fault."""
SECOND = {"image": "shop:2", "app": "shop:app"}


class Stage:
    """An operator for one namespace, with a proxy before its API server and one before its Redis. A dead one is replaced."""

    def __init__(self, cluster: Cluster, kube: KubeProxy, redis: RedisCuts, server: Server, start: Callable[[], Forked]) -> None:
        self.cluster, self.kube, self.redis = cluster, kube, redis
        self.phase = 0
        self.at_phase: Callable[[int], Any] = lambda _: None
        self.starts = 1
        self.collections = 0
        self._server = server
        self._start = start
        self.operator = start()

    def kill(self) -> None:
        self.operator.kill()

    async def keep(self) -> None:
        """Start another when it has ended, as kubelet does."""
        while True:
            if not self.operator.alive():
                self.starts += 1
                self.operator = self._start()
            await asyncio.sleep(0.02)

    async def live(self) -> dict[str, Any]:
        """All phases. Returns the end."""
        cluster, queue = self.cluster, Queue(self._server.url, self.cluster.namespace, NAME)
        try:
            self._begins()
            await cluster.apply(NAME, scaling=FAST)
            await self.runs("shop:1")
            self._begins()
            await queue.enqueue(25)
            await self.replicas(3)
            self._begins()
            await cluster.apply(NAME, scaling=FAST, worker=SECOND)
            await self.runs("shop:2")
            self._begins()
            await queue.drain()
            await self.replicas(0)
            self._begins()
            await cluster.delete("taskqueues", NAME)
            await self.collected()
            await cluster.apply(NAME, scaling=FAST)
            await self.runs("shop:1")
            return await self.settled()
        finally:
            await queue.close()

    def _begins(self) -> None:
        self.phase += 1
        self.at_phase(self.phase)

    async def runs(self, image: str) -> None:
        async def there() -> bool:
            found = await self.cluster.get("deployments", f"{NAME}-worker")
            owner = (await self.cluster.get("taskqueues", NAME))["metadata"]["uid"]
            if found["metadata"]["ownerReferences"][0]["uid"] != owner:  # made by a pass that began before the deletion
                await self.collected()
                return False
            return bool(found["spec"]["template"]["spec"]["containers"][0]["image"] == image)

        await until(there, RESTORES_WITHIN)

    async def replicas(self, wanted: int) -> None:
        async def asked_for() -> bool:
            return bool((await self.cluster.get("deployments", f"{NAME}-worker"))["spec"]["replicas"] == wanted)

        await until(asked_for, RESTORES_WITHIN)

    async def collected(self) -> None:
        """As the garbage collector does it."""
        await self.cluster.delete("deployments", f"{NAME}-worker")
        self.collections += 1

    async def settled(self) -> dict[str, Any]:
        """The end, once it is what a user waits for."""

        async def ready() -> Any:
            end = await self.end()
            conditions = {each[0]: each[1:] for each in end["conditions"]}
            assert conditions.get("Ready") == ("True", "ScaledToZero"), end
            assert end["observed"] == 1
            assert end["claimed by it"], end
            assert len(end["managers"]) == 2, end
            return end

        return dict(await until(ready, RESTORES_WITHIN))

    async def end(self) -> dict[str, Any]:
        cluster, own = self.cluster, await self.cluster.get("taskqueues", NAME)
        deployments = (await cluster.call("GET", cluster.path("deployments")))["items"]
        secrets = (await cluster.call("GET", cluster.path("secrets")))["items"]
        status = own.get("status", {})
        redis = connect(self._server.url)
        try:
            claim = await redis.round_trip([_get_claim(cluster.namespace)])
            users = await user_names(redis)
        finally:
            await redis.aclose()
        [workers] = deployments
        return {
            "conditions": sorted((each["type"], each["status"], each["reason"]) for each in status.get("conditions", ())),
            "observed": status.get("observedGeneration"),
            "desired": status.get("desiredReplicas"),
            "spec": self._plain(workers["spec"], own),
            "labels": workers["metadata"]["labels"],
            "annotations": sorted(workers["metadata"]["annotations"]),
            "managers": sorted({(each["manager"], each["operation"]) for each in workers["metadata"]["managedFields"]}),
            "secrets": [(each["metadata"]["name"], sorted(each["data"])) for each in secrets],
            "claimed by it": own["metadata"]["uid"].encode() in (claim[0] or b""),
            "users": [name for name in users if name.endswith(cluster.namespace)] == [f"stoker.{cluster.namespace}"],
        }

    def _plain(self, spec: Any, own: Any) -> Any:
        text = json.dumps(spec, sort_keys=True).replace(self.cluster.namespace, "NAMESPACE").replace(own["metadata"]["uid"], "UID")
        return json.loads(re.sub(r'"[0-9a-f]{8,64}"', '"DIGEST"', text))

    def made_once(self) -> None:
        """Nothing was made twice: one Deployment, one more after each that was collected, and one Secret."""
        made = [kind for kind, status in self.kube.calls if status == 201]
        assert made.count("POST deployments") == 1 + self.collections, made
        assert made.count("POST secrets") == 1, made


def _get_claim(namespace: str) -> Any:
    meta = Keys(namespace, NAME).meta
    return Routed(meta, ("HGET", meta, "claim"))


@asynccontextmanager
async def stage(server: ApiServer, redis: Server, forker: Forker, folder: Path, **settings: str) -> AsyncIterator[Stage]:
    """A namespace and an operator for it, which is started again when it ends."""
    async with namespace_in(server) as cluster, proxy_to(server) as kube, RedisCuts(redis).running() as cuts:
        chosen = {"STOKER_WATCH_NAMESPACES": cluster.namespace, "STOKER_CLUSTER_ID": "one", **settings}
        config = kube.kubeconfig(folder)

        def start() -> Forked:
            return forker.start(config, cuts.url, folder / "log", **chosen)

        made = Stage(cluster, kube, cuts, redis, start)
        keeping = asyncio.create_task(made.keep())
        try:
            yield made
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            made.kill()
