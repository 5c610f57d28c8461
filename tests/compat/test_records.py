"""What an earlier version left in Redis is finished by this one: every record is drained, on each kind of server."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from stoker import Stoker, Unique
from stoker.errors import NotFound
from stoker.queue.reads.inspector import Inspector
from stoker.rules.states import TaskState
from tests.compat.journal import GO, JOURNAL, QUEUE, app, write
from tests.compat.record import ROOT, kill, now, records, restore, worker
from tests.proof.movable import movable_server
from tests.redis_servers import Kind
from tests.waiting import until

SOURCE = ROOT / "worker" / "src"
LATER = 5_000
"""Ms between the record's end and the test: all leases of then have run out, all but the farthest delays are over."""
AS_RECORDED = {
    "kept": TaskState.SUCCEEDED,
    "retried": TaskState.SCHEDULED,
    "dead": TaskState.DEAD,
    "suspect": TaskState.READY,
    "running": TaskState.RUNNING,
    "keyed": TaskState.RUNNING,
    "other": TaskState.RUNNING,
    "parked": TaskState.READY,
    "low": TaskState.READY,
    "plain": TaskState.READY,
    "high": TaskState.READY,
    "soon": TaskState.SCHEDULED,
    "far": TaskState.SCHEDULED,
    "only": TaskState.SCHEDULED,
    "gone": TaskState.CANCELLED,
}
TO_BE_RUN = AS_RECORDED.keys() - {"kept", "gone", "far"} | {"inbox"}


@pytest.fixture(params=records(), ids=lambda path: path.name)
def record(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture(params=[Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
async def shop(request: pytest.FixtureRequest, record: Path) -> AsyncIterator[Stoker]:
    """The application on a server that holds the record."""
    kept = json.loads((record / "queue.json").read_text())
    with movable_server(request.param, durable=False) as (server, clock):
        clock.run(ahead=kept["ended"] + LATER - now())
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            restore(client, kept["keys"])
        app.redis_url = server.url
        yield app
        await app.close()


async def states(inspector: Inspector) -> dict[str, TaskState]:
    return {name: (await inspector.task(QUEUE, name)).state for name in AS_RECORDED}


async def test_a_recorded_queue_is_understood_and_drained(shop: Stoker) -> None:
    inspector = shop.client.inspector
    assert await states(inspector) == AS_RECORDED
    assert not [finding async for finding in inspector.examine(QUEUE)], "every task is in exactly one place"

    again = await write.options(id="kept").enqueue("a result")
    assert again.duplicate, "an id of then is known"
    assert await again.result(timeout=5) == "a result"
    second = write.options(unique=Unique(until="done", key=lambda line: "same"))
    assert (await second.enqueue("another line")).id == "only", "a claim of then holds"
    [stats] = await inspector.stats([QUEUE])
    assert stats.paused

    running = worker(SOURCE, shop.redis_url, "--concurrency", "1")
    try:
        with redis.Redis.from_url(shop.redis_url, decode_responses=True) as client:
            client.set(GO, 1)
            await inspector.resume(QUEUE)
            assert await inspector.redrive(QUEUE, ["dead"]) == ["dead"]
            for name in sorted(TO_BE_RUN):
                await until(lambda name=name: has_ended(inspector, name), within=20)
            ran = [line.split()[:2] for line in client.lrange(JOURNAL, 0, -1)]
    finally:
        kill(running)
    first = {name: int(attempt) for name, attempt in reversed(ran)}
    assert first["plain"] == first["inbox"] == first["parked"] == 1
    assert {first[name] for name in ("suspect", "running", "keyed", "other")} == {2}, "runs that were lost count as attempts"
    assert [name for name, _ in ran if name in {"high", "plain", "low"}] == ["high", "plain", "low"], "priorities of then"
    assert len(ran) == len({name for name, _ in ran}), "each of them once"
    assert (await inspector.task(QUEUE, "far")).state is TaskState.SCHEDULED
    assert not [finding async for finding in inspector.examine(QUEUE)]


async def has_ended(inspector: Inspector, name: str) -> bool:
    try:
        return (await inspector.task(QUEUE, name)).state is TaskState.SUCCEEDED
    except NotFound:  # it lies in the inbox
        return False
