"""A worker looks at its Redis before it takes a task: it waits for one that is away, and refuses one that would lose tasks."""

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from working import WorkerProcess, worker_process

from patience import until
from servers import Kind, Server, running_valkey
from stoker.client import Client, TaskCall
from topologies import ask, running_sentinels

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
            await client.send([TaskCall("bake_once", "default", id="bread")])
            await client.close()
            await until(lambda: worker.said("task started") or ask(server, "LLEN", "bakery:notes"))
        finally:
            worker.signal(signal.SIGTERM)
            worker.signal(signal.SIGTERM)
            await worker.exit_code()
            server.stop()


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


async def test_who_waits_for_redis_leaves_when_told_to(tmp_path: Path):
    with worker_process(Server().url, tmp_path) as worker:
        await until(lambda: worker.said("waiting for Redis"))
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0


@pytest.mark.parametrize("kind", [Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
async def test_a_worker_goes_on_after_a_failover(kind: Kind, tmp_path: Path):
    """The whole process, heartbeat and all, on the new master; what was enqueued before is done after."""
    with running_sentinels(kind) as sentinels, worker_process(sentinels.url, tmp_path, "--concurrency", "2") as worker:
        await until(lambda: worker.said("worker started"))
        client = Client.at(sentinels.url, "stoker")
        await client.send([TaskCall("bake_once", "default", id="before", run_at=0)])
        assert ask(sentinels.master, "WAIT", 1, 5000) == 1
        sentinels.master.stop()
        await until(lambda: worker.said("Redis is in trouble: running tasks go on, no new ones are taken"), within=20)
        await until(lambda: worker.said("Redis answers again"), within=20)
        await client.send([TaskCall("bake_once", "default", id="after")])
        await until(lambda: int(ask(sentinels.replica, "HGET", "{stoker:default}:meta", "fence") or 0) >= 2)
        worker.signal(signal.SIGTERM)
        worker.signal(signal.SIGTERM)
        assert await worker.exit_code() == 0
        await client.close()
