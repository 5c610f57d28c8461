"""A worker checks its Redis before it takes a task: it waits for one that is away, and refuses one that would lose tasks."""

import asyncio
import signal
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec import Raw

from stoker import Stoker
from stoker.client.client import Client
from stoker.errors import RedisUnavailable
from stoker.manifest.policies import Lease
from stoker.rules.call import TaskCall
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from tests.redis_servers import Kind, Server, running_valkey
from tests.redis_topologies import ask, running_sentinels
from tests.stories.working import WorkerProcess, worker_process, working
from tests.waiting import until

POLICY = ("--maxmemory-policy", "allkeys-lru")


def probe(worker: WorkerProcess, path: str) -> tuple[int, str]:
    [started] = worker.said("worker started")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{started['port']}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()


async def test_a_redis_that_throws_tasks_away_is_refused(tmp_path: Path):
    with running_valkey(*POLICY) as server, worker_process(server.url, tmp_path) as worker:
        assert await worker.exit_code() == 1
        assert "CONFIG SET maxmemory-policy noeviction" in (tmp_path / "worker.log").read_text()
        assert worker.said("task succeeded") == []


async def test_a_redis_that_is_away_at_start_is_waited_for(tmp_path: Path):
    server = Server()
    with worker_process(server.url, tmp_path) as worker:
        await until(lambda: worker.said("waiting for Redis"))
        assert probe(worker, "/livez") == (200, "ok")
        assert probe(worker, "/readyz") == (503, "waiting for Redis")
        server.start()
        try:
            await until(lambda: probe(worker, "/readyz") == (200, "ok"))
            client = Client.at(server.url, "stoker")
            await client.enqueue([TaskCall("bake", "default", Raw(b'{"seconds":0}'), id="bread")])
            await client.close()
            await until(lambda: worker.said("task succeeded"))
            worker.signal(signal.SIGTERM)
            assert await worker.exit_code() == 0
        finally:
            server.stop()


async def test_a_worker_starts_on_a_redis_that_is_full_and_drains_it(tmp_path: Path):
    """After a rollout nothing else would. The queue is announced as soon as that can be written."""
    with running_valkey() as server:
        client = Client.at(server.url, "stoker")
        await client.enqueue([TaskCall("where", "default", Raw(b"{}"))])
        ask(server, "DEL", "{stoker}:queues")
        ask(server, "CONFIG", "SET", "maxmemory", "1")
        with worker_process(server.url, tmp_path, "--partitions", "2", app="vandal:app") as worker:
            await until(lambda: worker.said("task succeeded"))
            assert probe(worker, "/readyz") == (200, "ok")
            ask(server, "CONFIG", "SET", "maxmemory", "0")
            await until(lambda: announced(server))
            ask(server, "FLUSHALL")
            await until(lambda: announced(server))
            worker.signal(signal.SIGTERM)
            assert await worker.exit_code() == 0
        await client.close()


def announced(server: Server) -> bool:
    names = {bytes(name).decode() for name in ask(server, "SMEMBERS", "{stoker}:queues")}
    return names == {"default", "default:1"} and int(ask(server, "HGET", "{stoker}:partitions", "default") or 1) == 2


async def test_a_redis_that_is_away_at_start_is_looked_at_when_it_comes(tmp_path: Path):
    server = Server(*POLICY)
    with worker_process(server.url, tmp_path) as worker:
        await until(lambda: worker.said("waiting for Redis"))
        server.start()
        try:
            assert await worker.exit_code() == 1
        finally:
            server.stop()
        assert "CONFIG SET maxmemory-policy noeviction" in (tmp_path / "worker.log").read_text()


async def test_a_redis_that_comes_back_without_its_users_is_given_time_to_get_them(tmp_path: Path):
    """On a cluster the operator makes them again. A login that is refused at once ends the worker at once."""
    server = Server()
    url = server.url.replace("//", "//few:secret@")
    with worker_process(url, tmp_path) as worker:
        await until(lambda: worker.said("waiting for Redis"))
        server.start()
        try:
            await until(lambda: worker.said("waiting for this worker's user in Redis"))
            ask(server, "ACL", "SETUSER", "few", "on", ">secret", "~*", "+@all")
            await until(lambda: probe(worker, "/readyz") == (200, "ok"))
            ask(server, "ACL", "DELUSER", "few")
            (tmp_path / "second").mkdir()
            with worker_process(url, tmp_path / "second") as second:
                assert await second.exit_code() == 1
        finally:
            server.stop()


async def test_a_worker_that_waits_for_redis_ends_on_a_signal(tmp_path: Path):
    with worker_process(Server().url, tmp_path) as worker:
        await until(lambda: worker.said("waiting for Redis"))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0


@pytest.mark.parametrize("kind", [Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
async def test_a_worker_goes_on_after_a_failover(kind: Kind):
    """With all its parts on the new master: what ran when the old one was lost ends there, and its lease is kept alive."""
    with running_sentinels(kind) as sentinels:
        app = Stoker("oven", redis=sentinels.url)
        opened = asyncio.Event()

        @app.task()
        async def heat() -> str:
            await opened.wait()
            return "hot"

        async with working(app, lease=Lease(Duration(3))):
            before = await heat.enqueue()
            await until(lambda: ask(sentinels.master, "ZCARD", "{stoker:default}:leases"))
            assert ask(sentinels.master, "WAIT", 1, 5000) == 1
            sentinels.master.stop()

            async def runs_on_the_new_master() -> bool:
                with suppress(RedisUnavailable):
                    return (await before.status()).state is TaskState.RUNNING
                return False

            await until(runs_on_the_new_master, within=20)
            after = await heat.enqueue()
            opened.set()
            assert [await handle.result(10) for handle in (before, after)] == ["hot", "hot"]
        await app.close()
