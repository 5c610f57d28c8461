"""What happens to a queue when its server is lost, demoted or moved: callers wait, and then it goes on where it was."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, TypeVar, cast

import pytest
from redis import Redis

from stoker.errors import RedisUnavailable
from stoker.queue.health import check_server
from stoker.redis.connect import connect
from tests.engine.line import DONE, Line, open_line
from tests.redis_servers import Kind
from tests.redis_topologies import ClusterOf, Sentinels, ask, client, eventually, running_cluster, running_sentinels, started

T = TypeVar("T")
RECOVERS_WITHIN = 20.0
IN_THE_MOMENT = 3
"""Enqueues, ten milliseconds apart, that may fall between a promotion and the end of the old link."""


async def until_it_works(call: Callable[[], Awaitable[T]]) -> tuple[T, list[str]]:
    """Try again as a worker would. Returns what came at last, and the troubles before."""
    troubles: list[str] = []
    deadline = time.monotonic() + RECOVERS_WITHIN
    while True:
        try:
            return await call(), troubles
        except RedisUnavailable as error:
            troubles.append(str(error))
            assert time.monotonic() < deadline, troubles[-1]
            await asyncio.sleep(0.05)


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with running_sentinels(Kind.VALKEY_9) as found:
        yield found


async def test_a_lost_master_is_replaced_and_its_queue_goes_on(sentinels: Sentinels):
    async with open_line(sentinels.url) as line:
        await line.enqueue("a", "b", "c")
        [first] = await line.fetch(1)
        assert ask(sentinels.master, "WAIT", 1, 5000) == 1, "the replica has all of it"
        waiting = asyncio.create_task(until_it_works(lambda: line.broker.wait_for_work(5)))
        sentinels.master.stop()
        _, troubles = await until_it_works(lambda: line.enqueue("d"))
        assert troubles
        assert await line.settle(first, DONE), "a lease outlives its server"
        assert await line.order() == ["b", "c", "d"]
        await waiting


async def test_no_sentinel_is_forgotten_when_many_ask_at_once(sentinels: Sentinels):
    """The first one listed is dead, so that every caller goes on to the next at the same time."""
    redis = connect(sentinels.url.replace("//", "//127.0.0.1:1,"))
    await asyncio.gather(*(check_server(redis) for _ in range(20)))
    sentinels_known = cast(Any, redis)._find.__self__.hosts
    assert sorted(sentinels_known) == sorted([("127.0.0.1", port) for port in (1, *sentinels.ports)])
    assert sentinels_known[0][1] in sentinels.ports, "one that answers is asked first"
    await redis.aclose()


async def test_a_demoted_master_takes_nothing_that_would_be_lost():
    """For some seconds after a failover Sentinel leaves two masters; with min-replicas-to-write the old one is no trap.

    What it takes between its replica's promotion and the end of their link is lost even so: replication had not carried it over.
    """
    with running_sentinels(Kind.VALKEY_9, "--min-replicas-to-write", "1") as sentinels:
        async with open_line(sentinels.url) as line:
            taken = ["first"]
            await line.enqueue("first")
            ask_sentinel(sentinels.ports[0], "SENTINEL FAILOVER main")

            def it_follows() -> bool:
                with client(sentinels.master) as connection:
                    return connection.info("replication")["role"] == "slave"

            following = asyncio.create_task(asyncio.to_thread(eventually, it_follows))
            while not following.done():
                with contextlib.suppress(RedisUnavailable):
                    await line.enqueue(f"t{len(taken):04}")
                    taken.append(f"t{len(taken):04}")
                await asyncio.sleep(0.01)
            await following
            await until_it_works(lambda: line.enqueue("last"))
            # The last one may have been taken though its answer was lost: nobody was told that it was.
            in_doubt = f"t{len(taken):04}"
            found = [task_id for task_id in await line.order(5000) if task_id != in_doubt]
            kept = [task_id for task_id in taken if task_id in found]
            assert found == [*kept, "last"]
            assert len(taken) - len(kept) <= IN_THE_MOMENT, "without that setting it would be all that was sent for seconds"


def ask_sentinel(port: int, command: str) -> None:
    with Redis(port=port) as connection:
        connection.execute_command(*command.split())


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
async def test_a_connection_to_a_replica_is_dropped(kind: Kind):
    """A name that will lead to the new master must be looked up again."""
    with ExitStack() as stack:
        server, other = started(stack, kind=kind), started(stack, kind=kind)
        async with open_line(server.url) as line:
            await line.enqueue("a")
            connected_as = await line.redis.client_id()
            ask(server, "REPLICAOF", "127.0.0.1", other.port)
            with pytest.raises(RedisUnavailable, match="Redis is a replica now"):
                await line.enqueue("b")
            with pytest.raises(RedisUnavailable, match="Redis is a replica now"):
                await line.broker.register()
            ask(server, "REPLICAOF", "NO", "ONE")
            assert await line.redis.client_id() != connected_as
            await line.redis.flushdb()


@asynccontextmanager
async def cluster_line(kind: Kind, *, with_replica: bool = False) -> AsyncIterator[tuple[ClusterOf, Line]]:
    with running_cluster(kind, with_replica=with_replica) as cluster:
        async with open_line(cluster.url) as line:
            yield cluster, line


async def test_a_lost_node_of_a_cluster_is_replaced_by_its_replica():
    async with cluster_line(Kind.VALKEY_9, with_replica=True) as (cluster, line):
        # The replica follows the first master: give it the queue.
        await move_slot(cluster, line, to=0)
        await line.enqueue("a", "b")
        [first] = await line.fetch(1)
        assert ask(cluster.masters[0], "WAIT", 1, 5000) == 1
        cluster.masters[0].stop()
        _, troubles = await until_it_works(lambda: line.enqueue("c"))
        assert troubles
        assert await line.settle(first, DONE)
        assert await line.order() == ["b", "c"]


@pytest.mark.parametrize("kind", [Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
async def test_a_queue_that_moves_to_another_node_is_followed(kind: Kind):
    async with cluster_line(kind) as (cluster, line):
        await line.enqueue("a", "b", "c")
        [first] = await line.fetch(1)
        was = cluster.owner(line.keys.ready)
        to = (cluster.masters.index(was) + 1) % 3
        await move_slot(cluster, line, to=to, halfway=lambda: expect_trouble(line))
        assert await line.settle(first, DONE)
        turn = await line.broker.turn([], 1, "w")
        assert [delivery.id for delivery in turn.deliveries] == ["b"]
        assert await line.broker.wait_for_work(1)
        await line.enqueue("d")
        assert cluster.owner(line.keys.ready) is cluster.masters[to]
        assert await line.order() == ["c", "d"]


async def expect_trouble(line: Line) -> None:
    """While a queue's keys are on two nodes no script can run; it is said so, and nothing is half done."""
    with pytest.raises(RedisUnavailable, match="moving to another node"):
        await line.enqueue("never")
    with pytest.raises(RedisUnavailable, match="moving to another node"):
        await line.fetch()


async def move_slot(cluster: ClusterOf, line: Line, *, to: int, halfway: Callable[[], Awaitable[None]] | None = None) -> None:
    """As redis-cli --cluster reshard does, key by key; `halfway` runs when some have gone."""
    source, target = cluster.owner(line.keys.ready), cluster.masters[to]
    if source is target:
        return
    slot = int(str(ask(source, "CLUSTER", "KEYSLOT", line.keys.ready)))
    names = {server: ask(server, "CLUSTER", "MYID") for server in cluster.masters}
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    with client(source) as connection:
        keys = connection.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100)
        for at, key in enumerate(keys):
            if halfway and at == len(keys) // 2:
                await halfway()
            connection.execute_command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        if halfway:
            await halfway()
    for server in (target, source, *cluster.masters):
        ask(server, "CLUSTER", "SETSLOT", slot, "NODE", names[target])


async def test_a_cluster_without_all_its_slots_is_waited_for():
    async with cluster_line(Kind.VALKEY_9) as (cluster, line):
        await line.enqueue("a")
        owner = cluster.owner(line.keys.ready)
        lost = next(server for server in cluster.masters if server is not owner)
        lost.stop()

        def it_is_down() -> bool:
            return ask(owner, "CLUSTER INFO")["cluster_state"] == "fail"

        await asyncio.to_thread(eventually, it_is_down)
        with pytest.raises(RedisUnavailable, match="the Redis Cluster is down"):
            await line.enqueue("b")
        ask(owner, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        await until_it_works(lambda: line.enqueue("b"))
        assert await line.order() == ["a", "b"]
