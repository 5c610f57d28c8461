"""`durability=`: an enqueue that waits for a replica or for the disk, and says so when they do not come."""

import asyncio

import pytest

from stoker import Invalid, NotDurable, RedisRefused, Stoker
from stoker.client.client import Client
from stoker.redis import durability
from stoker.rules.admission import Admission
from stoker.rules.call import TaskCall
from stoker.rules.durability import Durability
from tests.engine.line import message, open_line
from tests.redis_servers import Kind, running_valkey
from tests.redis_topologies import ask, client, running_cluster, running_pair
from tests.waiting import until

KINDS = pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.value)
AOF = ("--appendonly", "yes", "--appendfsync", "everysec")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that never comes need not be waited for."""
    monkeypatch.setattr(durability, "PATIENCE", 0.5)


def entries(*ids: str) -> list[Admission]:
    return [Admission(message(task_id)) for task_id in ids]


@KINDS
async def test_replicated_means_that_a_replica_has_it(kind: Kind):
    with running_pair(kind) as (master, replica):
        async with open_line(master.url) as line:
            for round_ in range(3):  # the first one has to send the scripts
                ids = [f"{round_}-{number:03}" for number in range(250)]
                receipts = await line.broker.enqueue(entries(*ids), Durability.REPLICATED)
                assert [receipt.id for receipt in receipts if not receipt.duplicate] == ids
                assert all(ask(replica, "HEXISTS", line.keys.tasks, task_id) for task_id in ids)


@pytest.mark.usefixtures("impatient")
@KINDS
async def test_without_a_replica_it_is_said_and_the_task_is_there_all_the_same(kind: Kind):
    with running_pair(kind) as (master, replica):
        async with open_line(master.url) as line:
            replica.stop()
            with pytest.raises(NotDurable, match=r"enqueued, but not replicated: no replica acknowledged it") as missed:
                await line.broker.enqueue(entries("a", "b"), Durability.REPLICATED)
            assert missed.value.ids == ["a", "b"]
            replica.start()
            ask(replica, "REPLICAOF", "127.0.0.1", master.port)
            receipts = await repeat_until_durable(lambda: line.broker.enqueue(entries("a", "b"), Durability.REPLICATED))
            assert [receipt.duplicate for receipt in receipts] == [True, True]
            assert await line.order() == ["a", "b"], "sent twice, there once"


async def repeat_until_durable(call):
    while True:
        try:
            return await call()
        except NotDurable:
            await asyncio.sleep(0.01)


async def test_fsynced_means_that_it_is_on_the_disk():
    with running_valkey(*AOF) as server:
        async with open_line(server.url) as line:
            for task_id in ("a", "b"):
                await line.broker.enqueue(entries(task_id), Durability.FSYNCED)
                with client(server) as behind:
                    # The server's own fsync of every second may just be under way.
                    await until(lambda behind=behind: behind.info("persistence")["aof_pending_bio_fsync"] == 0, within=2.0)
            assert await line.order() == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Kind.VALKEY_9, ()), (Kind.REDIS_7, AOF), (Kind.REDIS_6, AOF)],
    ids=["no append-only file", "Redis 7.0", "Redis 6.2"],
)
async def test_a_server_that_cannot_wait_for_its_disk(kind: Kind, options: tuple[str, ...]):
    with running_valkey(*options, kind=kind) as server:
        async with open_line(server.url) as line:
            for task_id in ("a", "b"):
                with pytest.raises(NotDurable, match=r"not fsynced: .*Redis 7\.2 or Valkey, and CONFIG SET appendonly yes"):
                    await line.broker.enqueue(entries(task_id), Durability.FSYNCED)
            assert await line.order() == ["a", "b"]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", [Kind.VALKEY_9, Kind.REDIS_7], ids=lambda kind: kind.value)
async def test_in_a_cluster_the_node_of_the_queue_is_asked(kind: Kind):
    """Of three masters only the first has a replica."""
    with running_cluster(kind, with_replica=True) as cluster:
        assert cluster.replica
        clients = Client.at(cluster.url, "test")
        reached = {}
        for queue in ("a", "b", "c", "d", "e", "f"):
            try:
                await clients.enqueue([TaskCall("add", queue, id="x", durability=Durability.REPLICATED)])
                reached[queue] = True
            except NotDurable:
                reached[queue] = False
        owners = {queue: cluster.owner(f"{{test:{queue}}}:ready") for queue in reached}
        assert reached == {queue: owner is cluster.masters[0] for queue, owner in owners.items()}
        assert set(reached.values()) == {True, False}
        await clients.close()


async def test_a_task_says_it_for_one_call():
    with running_pair(Kind.VALKEY_9) as (master, replica):
        app = Stoker("test", redis=master.url)

        @app.task()
        async def charge(cents: int) -> None: ...

        handle = await charge.options(durability="replicated").enqueue(100)
        assert ask(replica, "HEXISTS", "{stoker:default}:tasks", handle.id)
        ask(replica, "REPLICAOF", "NO", "ONE")
        with pytest.raises(NotDurable) as missed:
            await charge.options(id="order-42", durability="replicated").enqueue(100)
        assert missed.value.ids == ["order-42"]
        with pytest.raises(Invalid, match="choose memory, replicated or fsynced"):
            await charge.options(durability="for ever").enqueue(1)  # type: ignore[typeddict-item]
        await app.close()


async def test_a_right_that_is_missing_is_no_lack_of_durability():
    with running_valkey() as server:
        ask(server, "ACL", "SETUSER", "w", "on", ">secret", "~*", "+@all", "-wait")
        async with open_line(server.url.replace("//", "//w:secret@")) as line:
            with pytest.raises(RedisRefused, match="lacks a permission"):
                await line.broker.enqueue(entries("a"), Durability.REPLICATED)
