"""What Secrets hold appears nowhere: no status, Event, annotation, log line of any level, metric or record in Redis has it.

Every Secret of the scenario holds strings that occur nowhere else, and everything in it goes wrong.
"""

import asyncio
import base64
import logging
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis

from stoker.rules.identity import Holder, QueueId
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.problem import Problem
from tests.operator.apiserver import ApiServer
from tests.operator.operating import FAST, Cluster, running_operator, unique, until
from tests.operator.rights import NAMESPACED, rules
from tests.operator.tenant_operator import namespace_with, settings
from tests.redis_servers import Valkey, running_valkey


class Canaries:
    """Strings to look for."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def new(self) -> str:
        self.made.append(f"canary{secrets.token_hex(8)}")
        return self.made[-1]

    def in_text(self, text: str) -> list[str]:
        """The lines that have one."""
        return [line for line in text.splitlines() if any(each in line for each in self.made)]


def urls(canaries: Canaries, good: int) -> dict[str, str]:
    """For each TaskQueue what its Secret holds in the place of a URL."""
    new = canaries.new
    key = f"-----BEGIN PRIVATE KEY-----\n{new()}\n{new()}==\n-----END PRIVATE KEY-----\n"
    return {
        "wrong-password": f"redis://{new()}:{new()}@127.0.0.1:{good}/0",
        "unreachable": f"redis://{new()}:{new()}@127.0.0.1:1/0",
        "no-name": f"redis://{new()}:{new()}@{new()}.invalid/0",
        "no-tls": f"rediss://{new()}:{new()}@127.0.0.1:{good}/0",
        "bad-authority": f"rediss://{new()}@127.0.0.1:{good}/0?ssl_ca_data={new()}",
        "files": f"rediss://{new()}@127.0.0.1:{good}/0?ssl_keyfile=/{new()}",
        "private-key": key,
        "token": f"eyJhbGciOiJSUzI1NiJ9.{new()}.{new()}",
        "http": f"http://{new()}:{new()}@127.0.0.1:{good}/",
        "unescaped": f"redis://{new()}:{new()}@[{new()}@127.0.0.1:{good}/0",
        "bad-port": f"redis://:{new()}@127.0.0.1:{new()}/0",
        "bad-option": f"redis://127.0.0.1:{good}/0?{new()}={new()}",
        "sentinels": f"redis+sentinel://:{new()}@127.0.0.1:1/main?sentinel_password={new()}",
        "cluster": f"redis+cluster://{new()}:{new()}@127.0.0.1:{good}",
    }


async def test_no_message_and_no_log_line_has_a_part_of_a_url(shared_valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    canaries, queue = Canaries(), QueueId("shop", "a")
    wanted = urls(canaries, shared_valkey.port)
    pool = RedisPool(timeout=3.0)
    with caplog.at_level(logging.DEBUG):
        readings = await asyncio.gather(*(pool.probe(url, [[queue]]) for url in wanted.values()))
        claims = [await pool.claim(url, queue, Holder("cluster", "shop", "a", "uid")) for url in wanted.values()]
    await pool.close()
    assert all(isinstance(each, Problem) for each in claims)
    said = [*(reading.problem.message for [reading] in readings if reading.problem), *map(str, claims), caplog.text]
    assert len(said) == 2 * len(wanted) + 1
    assert canaries.in_text("\n".join(said)) == []


@pytest.mark.nightly
async def test_what_secrets_hold_is_found_nowhere(own_api_server: ApiServer, tmp_path: Path) -> None:
    canaries = Canaries()
    with running_valkey("--requirepass", own := canaries.new()) as server:
        url = f"redis://:{own}@127.0.0.1:{server.port}/0"
        loud = {"STOKER_LOG_LEVEL": "debug", "STOKER_RESYNC": "1s", "STOKER_REDIS_TIMEOUT": "3s"}
        async with namespace_with(own_api_server, url, rules(NAMESPACED)) as cluster:
            with running_operator(own_api_server, url, tmp_path, **settings(own_api_server, cluster), **loud) as operator:
                await everything_wrong(cluster, canaries, server.port)
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator.port}") as http:
                    pages = {page: (await http.get(f"/{page}")).text for page in ("metrics", "livez", "readyz")}
            # The user's password that the operator made itself.
            made = (await cluster.get("secrets", "stoker-redis"))["data"]["STOKER_REDIS_URL"]
            canaries.made.append(str(urlsplit(base64.b64decode(made).decode()).password))
            shown = {kind: await listed(cluster, kind) for kind in ("taskqueues", "deployments", "events", "pods", "configmaps")}
        with redis.Redis.from_url(url) as client:
            records = " ".join(f"{key!r} {client.dump(key)!r}" for key in client.scan_iter())
            users = repr(client.execute_command("ACL", "LIST"))
    log = operator.log.read_text()
    assert '"level":"debug"' in log.replace(" ", "")
    shown |= {"log": log, "records": records, "users": users, **pages}
    assert {where: found for where, text in shown.items() if (found := canaries.in_text(text))} == {}
    assert "WorkersRefused" in shown["events"]


async def listed(cluster: Cluster, kind: str) -> str:
    return str((await cluster.call("GET", cluster.path(kind)))["items"])


async def unreadable(cluster: Cluster, names: list[str]) -> bool:
    """Whether each of these is said to have a Redis that cannot be read."""
    items = (await cluster.call("GET", cluster.path("taskqueues")))["items"]
    found = {each["metadata"]["name"]: each.get("status", {}).get("conditions", []) for each in items}
    return all(any((c["type"], c["status"]) == ("RedisReachable", "False") for c in found[name]) for name in names)


async def everything_wrong(cluster: Cluster, canaries: Canaries, port: int) -> None:
    """A TaskQueue for each way in which a URL can be wrong, and some whose environment and manifest are."""
    wanted = urls(canaries, port)
    for name, url in wanted.items():
        await cluster.secret(name, url=url)
        await cluster.apply(name, redis={"urlSecretRef": {"name": name}}, scaling=FAST)
    refused, started = unique("refused"), unique("started")
    await cluster.secret("environment", PASSWORD=canaries.new(), TOKEN=canaries.new())
    one = {"name": "ONE", "valueFrom": {"secretKeyRef": {"name": "environment", "key": "TOKEN"}}}
    worker: dict[str, Any] = {"image": "shop:1", "envFrom": [{"secretRef": {"name": "environment"}}], "env": [one]}
    await cluster.apply(refused, worker={**worker, "resources": {"limits": {"memory": "much"}}}, scaling=FAST)
    await cluster.apply(started, worker=worker, scaling=FAST)
    await until(lambda: unreadable(cluster, list(wanted)))
    await cluster.condition(refused, "Ready", "False", "WorkersRefused")
    before = (await cluster.workers(started))["metadata"]["generation"]
    await cluster.secret("environment", PASSWORD=canaries.new(), TOKEN=canaries.new())

    async def rolled() -> bool:
        return bool((await cluster.workers(started))["metadata"]["generation"] > before)

    await until(rolled)
