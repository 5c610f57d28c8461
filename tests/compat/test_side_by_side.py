"""Two versions work on one queue and send to it, and none of them can tell: the earliest recorded one and this one."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from stoker.client.client import Client
from stoker.errors import NotFound, RedisRefused
from stoker.queue.keys import LAYOUT, Keys
from stoker.queue.records import QueueStats
from stoker.rules.call import TaskCall
from tests.compat.journal import JOURNAL, QUEUE, TOGETHER
from tests.compat.record import ROOT, kill, records, run, unpacked, worker
from tests.redis_servers import Server
from tests.waiting import until

SOURCE = ROOT / "worker" / "src"
EACH = 120


@pytest.fixture(params=records(), ids=lambda path: path.name)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The source of a recorded version."""
    return unpacked(request.param, tmp_path)


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Client]:
    client = Client.at(url, "stoker")
    yield client
    await client.close()


async def ended(client: Client) -> QueueStats | None:
    """The statistics, once nothing is left."""
    try:
        [stats] = await client.inspector.stats([QUEUE])
    except NotFound:
        return None
    return stats if stats.ready + stats.running + stats.scheduled == 0 else None


@contextlib.contextmanager
def working(*crew: tuple[Path, str], url: str) -> Iterator[list[object]]:
    """Workers that do not outlive the test."""
    processes = [worker(source, url, "--name", name, "--concurrency", "8") for source, name in crew]
    try:
        yield processes
    finally:
        for process in processes:
            kill(process)


async def test_old_and_new_share_a_queue(older: Path, own_valkey: Server) -> None:
    """Both send, both work; one of each is killed on the way. Every task succeeds, and no limit is broken."""
    url = own_valkey.url
    with redis.Redis.from_url(url, decode_responses=True) as client, working((older, "old"), (SOURCE, "new"), url=url) as crew:
        await until(lambda: client.zcard(Keys("stoker", QUEUE).beats) == 2)
        for source in (older, SOURCE):
            run(source, url, "journal.py", "send", str(EACH))
        await until(lambda: client.llen(JOURNAL) > EACH // 4)
        crew += [worker(older, url, "--name", "old-2"), worker(SOURCE, url, "--name", "new-2")]
        kill(crew[0])
        await until(lambda: client.llen(JOURNAL) > EACH)
        kill(crew[1])
        async with looking(url) as looker:
            stats = await until(lambda: ended(looker), within=30)
            findings = [finding async for finding in looker.inspector.examine(QUEUE)]
        lines = [line.split() for line in client.lrange(JOURNAL, 0, -1)]
        together = [int(number) for number in client.lrange(TOGETHER, 0, -1)]
    assert (stats.totals.succeeded, stats.dead) == (2 * EACH, 0)
    assert {name for name, _, _ in lines} == {f"{source.name}-{number}" for source in (older, SOURCE) for number in range(EACH)}
    ran = Counter((by, name.rpartition("-")[0]) for name, _, by in lines)
    assert {(by, of) for by in (older.name, SOURCE.name) for of in (older.name, SOURCE.name)} <= ran.keys(), "each ran the other's"
    assert max(together) <= 2 + 4, "at most two at a time, but for those that died with their worker and counted on"
    assert not findings


async def test_a_field_from_the_future_is_ignored(own_valkey: Server) -> None:
    """An envelope with fields that this version does not know runs as if they were not there."""
    url, keys = own_valkey.url, Keys("stoker", QUEUE)
    run(SOURCE, url, "journal.py", "send", "1")
    with redis.Redis.from_url(url, decode_responses=True) as client:
        [(task_id, envelope)] = client.hgetall(keys.tasks).items()
        client.hset(keys.tasks, task_id, envelope[:-1] + ',"colour":"blue","then":[{"task":"write"}]}')
        with working((SOURCE, "new"), url=url):
            await until(lambda: client.llen(JOURNAL) == 1)
            async with looking(url) as looker:
                assert (await until(lambda: ended(looker))).succeeded == 1


async def test_a_layout_from_the_future_is_left_alone(own_valkey: Server) -> None:
    """A queue that a newer version has laid out otherwise is neither written to nor worked on, and the message says what to do."""
    url, keys = own_valkey.url, Keys("stoker", QUEUE)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        run(SOURCE, url, "journal.py", "send", "1")
        assert client.hget(keys.meta, "layout") == str(LAYOUT), "whoever comes first says which layout it is"
        client.hset(keys.meta, "layout", LAYOUT + 1)
        before = client.hgetall(keys.tasks)
        with working((SOURCE, "new"), url=url) as crew:
            await until(lambda: crew[0].poll() == 1)
        async with looking(url) as looker:
            with pytest.raises(RedisRefused, match="upgrade this program"):
                await looker.enqueue([TaskCall("write", QUEUE)])
        assert client.hgetall(keys.tasks) == before
