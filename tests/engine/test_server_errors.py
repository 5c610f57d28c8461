"""Every way in which a Redis can fail a call, on real servers: what passes is waited for, what stays says what mends it."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import redis

from stoker.errors import RedisFull, RedisRefused, RedisUnavailable
from stoker.manifest.policies import Lease, Retention
from stoker.queue.health import check_server
from stoker.redis import connect as connection
from tests.engine.line import DONE, Line, open_line
from tests.redis_servers import Kind, Server, free_port, running_valkey
from tests.redis_topologies import ask, client, eventually, started

KINDS = pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)


async def refused_everywhere(line: Line, words: str, error: type[Exception] = RedisUnavailable) -> None:
    """What a client, a worker, its heartbeat and a reader all get to hear."""
    for call in (line.enqueue("never"), line.fetch(), line.beat(), line.stats(), line.broker.promote(), line.broker.reap()):
        with pytest.raises(error, match=words) as refusal:
            await call
        assert type(refusal.value) is error


async def test_nothing_listens_on_the_port():
    async with open_line_unchecked(f"redis://127.0.0.1:{free_port()}") as line:
        await refused_everywhere(line, "Redis does not answer .*Connect")


async def test_the_name_leads_nowhere():
    async with open_line_unchecked("redis://nowhere.invalid:6379") as line:
        await refused_everywhere(line, "Redis does not answer")


@asynccontextmanager
async def open_line_unchecked(url: str) -> AsyncIterator[Line]:
    """A line whose server cannot be asked for the truth afterwards."""
    client_of_it = connection.connect(url)
    yield Line(cast(Any, client_of_it), Lease(), Retention())
    await client_of_it.aclose()


async def test_a_server_that_hangs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.2)  # the first call gives its connection up, the others make a new one
    with running_valkey() as server:
        async with open_line(server.url) as line:
            await line.enqueue("a")
            with server.frozen():
                await refused_everywhere(line, "Redis does not answer .*Timeout")
            assert {"a"} <= set(await line.order()) <= {"a", "never"}, "a call without an answer may have been taken"


async def test_a_server_that_is_lost_and_comes_back_empty():
    with running_valkey() as server:
        async with open_line(server.url) as line:
            await line.enqueue("a")
            server.stop()
            await refused_everywhere(line, "Redis does not answer")
            server.start()
            await line.enqueue("b")
            assert await line.order() == ["b"]


@pytest.mark.parametrize("kind", [Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
async def test_loading(kind: Kind, tmp_path: Path):
    """A server that has started answers before it has read its data; the task is there once it has."""
    slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    with ExitStack() as stack:
        before = started(stack, "--dir", str(tmp_path), kind=kind)
        async with open_line_unchecked(before.url) as line:
            await line.enqueue("a")
            with client(before) as behind:
                behind.mset({f"ballast:{number}": os.urandom(200) for number in range(100)})
                behind.save()
        before.stop()
        after = started(stack, "--dir", str(tmp_path), *slowly, kind=kind)
        async with open_line(after.url) as line:
            await refused_everywhere(line, "Redis has started and is loading its data")

            def it_has_loaded() -> bool:
                with client(after) as behind:
                    return not behind.info("persistence")["loading"]

            await asyncio.to_thread(eventually, it_has_loaded)
            assert await line.order() == ["a"]


@KINDS
async def test_a_script_of_another_client_runs_for_too_long(kind: Kind):
    with running_valkey("--lua-time-limit", "50", kind=kind) as server:
        async with open_line(server.url) as line:
            with endless_script(server):
                await refused_everywhere(line, "Redis is busy with a script")
            await line.enqueue("a")


@contextmanager
def endless_script(server: Server) -> Iterator[None]:
    def run() -> None:
        with suppress(redis.RedisError):
            ask(server, "EVAL", "while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()

    def it_is_busy() -> bool:
        try:
            return not ask(server, "PING")
        except redis.ResponseError as error:
            return str(error).startswith("BUSY")

    eventually(it_is_busy)
    yield
    ask(server, "SCRIPT", "KILL")
    thread.join()


@KINDS
async def test_a_disk_that_cannot_be_written(kind: Kind, tmp_path: Path):
    with running_valkey("--dir", str(tmp_path), kind=kind) as server:
        ask(server, "CONFIG", "SET", "save", "3600 1")
        (tmp_path / "dump.rdb").mkdir()  # no snapshot can ever take this name
        async with open_line(server.url) as line:
            await line.enqueue("a")
            ask(server, "BGSAVE")

            def it_has_failed() -> bool:
                with client(server) as behind:
                    return behind.info("persistence")["rdb_last_bgsave_status"] == "err"

            await asyncio.to_thread(eventually, it_has_failed)
            with pytest.raises(RedisRefused, match="cannot write to its disk: free disk space"):
                await line.enqueue("b")
            ask(server, "CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
            await line.enqueue("b")
            assert await line.order() == ["a", "b"]


@KINDS
async def test_too_few_replicas(kind: Kind):
    with running_valkey("--min-replicas-to-write", "1", kind=kind) as server:
        async with open_line(server.url) as line:
            with pytest.raises(RedisUnavailable, match="fewer replicas than its min-replicas-to-write"):
                await line.enqueue("a")
            ask(server, "CONFIG", "SET", "min-replicas-to-write", 0)
            await line.enqueue("a")


@KINDS
async def test_a_replica_without_its_master(kind: Kind):
    with running_valkey("--replica-serve-stale-data", "no", kind=kind) as server:
        ask(server, "REPLICAOF", "127.0.0.1", free_port())
        async with open_line_unchecked(server.url) as line:
            await refused_everywhere(line, "lost its master|a replica now")


@KINDS
@pytest.mark.parametrize(
    ("credentials", "advice"),
    [("", "Redis wants credentials: write them into the URL"), ("anna:wrong@", "Redis refuses these credentials: correct them")],
    ids=["none", "wrong ones"],
)
async def test_credentials(kind: Kind, credentials: str, advice: str):
    with running_valkey("--requirepass", "secret", kind=kind) as server:
        async with open_line_unchecked(server.url.replace("//", f"//{credentials}")) as line:
            await refused_everywhere(line, advice, RedisRefused)
            with pytest.raises(RedisRefused, match=advice):
                await check_server(line.redis)
        async with open_line(server.url.replace("//", "//:secret@")) as line:
            await line.enqueue("a")


@KINDS
async def test_a_server_that_has_reached_its_maxclients(kind: Kind):
    """It says so before anybody asks."""
    with running_valkey(kind=kind) as server, client(server) as only:
        only.config_set("maxclients", 1)
        async with open_line_unchecked(server.url) as line:
            await refused_everywhere(line, "Redis refuses new connections: raise its maxclients")
            only.config_set("maxclients", 100)
            await line.enqueue("a")


@KINDS
async def test_a_name_that_something_else_uses(kind: Kind):
    with running_valkey(kind=kind) as server:
        async with open_line_unchecked(server.url) as line:
            ask(server, "SET", line.keys.meta, "mine")
            with pytest.raises(RedisRefused, match="give Stoker its own namespace or database"):
                await line.enqueue("a")


@KINDS
async def test_a_full_server_takes_nothing_new_and_drains(kind: Kind):
    """Refused as a whole: a batch of which only half fits is not begun."""
    with running_valkey(kind=kind) as server:
        async with open_line(server.url) as line:
            await line.enqueue("slow", *(f"t{number:03}" for number in range(300)))
            await line.enqueue("later", delay=0.05)
            slow, lost = await line.fetch(2)
            ask(server, "CONFIG", "SET", "maxmemory", 1)
            for _ in range(3):
                with pytest.raises(RedisFull, match="Redis is full: let the queue drain, or CONFIG SET maxmemory"):
                    await line.enqueue(*(f"new{number}" for number in range(100)))
            assert (await line.stats()).ready == 299
            assert (await line.beat(slow, lost)).lost == []
            assert await line.settle(slow, DONE)
            ask(server, "CONFIG", "SET", "maxmemory", 0)
            await line.pass_time(31)
            ask(server, "CONFIG", "SET", "maxmemory", 1)
            assert (await line.broker.reap()).given_back == 1
            while deliveries := await line.fetch(100):
                for delivery in deliveries:
                    assert await line.settle(delivery, DONE)
            await line.broker.sweep()
            await line.broker.forget_worker("w")
            stats = await line.stats()
            assert (stats.ready, stats.running, stats.scheduled, stats.succeeded) == (0, 0, 0, 302)
            assert stats.totals.enqueued == 302, "nothing of what was refused came in"
            ask(server, "CONFIG", "SET", "maxmemory", 0)
            await line.enqueue("new0")


@KINDS
@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_throws_tasks_away_is_refused(kind: Kind, policy: str):
    with running_valkey("--maxmemory-policy", policy, kind=kind) as server:
        redis_client = connection.connect(server.url)
        with pytest.raises(RedisRefused, match="CONFIG SET maxmemory-policy noeviction"):
            await check_server(redis_client)
        ask(server, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        await check_server(redis_client)
        await redis_client.aclose()


@KINDS
async def test_scripts_forgotten_under_load_lose_nothing(kind: Kind):
    """SCRIPT FLUSH while tasks come and go: every one of them runs once."""
    with running_valkey(kind=kind) as server:
        async with open_line(server.url) as line:
            expected = [f"t{number:04}" for number in range(2000)]
            ran: list[str] = []

            async def produce(part: int) -> None:
                for at in range(part, len(expected), 4):
                    await line.enqueue(expected[at])

            async def consume(worker: str) -> None:
                while len(ran) < len(expected):
                    for delivery in await line.fetch(10, worker):
                        ran.append(delivery.id)
                        assert await line.settle(delivery, DONE)
                    await asyncio.sleep(0)

            async def forget() -> None:
                with client(server) as behind:
                    while len(ran) < len(expected):
                        behind.script_flush()
                        await asyncio.sleep(0.002)

            await asyncio.gather(*(produce(part) for part in range(4)), consume("w1"), consume("w2"), forget())
            assert sorted(ran) == expected
            assert (await line.stats()).totals.succeeded == len(expected)
