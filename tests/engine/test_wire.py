"""The connection that all callers of a process share: nobody gets another's reply, whatever happens to whom."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from enum import IntEnum

import pytest

from stoker.errors import Invalid, RedisUnavailable
from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.redis import connect as connection
from stoker.redis.client import Routed
from stoker.redis.replies import parse_info
from stoker.redis.single import SingleServer
from tests.redis_servers import running_valkey
from tests.waiting import until


class Visitor:
    """A client, and what the server says of its connections."""

    def __init__(self, url: str) -> None:
        redis = connection.connect(url)
        assert isinstance(redis, SingleServer)
        self.redis = redis
        self.broker = Broker(redis, Keys("test", "emails"))

    async def echo(self, text: str) -> str:
        [reply] = await self.redis.round_trip([Routed("", ("ECHO", text))])
        return bytes(reply).decode()

    async def connections(self, command: str) -> int:
        """How many there are whose last command was this one."""
        [found] = await self.redis.round_trip([Routed("", ("CLIENT", "LIST"))])
        return bytes(found).decode().count(f" cmd={command} ")


@pytest.fixture
async def visitor() -> AsyncIterator[Visitor]:
    with running_valkey() as server:
        found = Visitor(server.url)
        yield found
        await found.redis.aclose()


async def test_everybody_gets_the_own_reply_over_one_connection(visitor: Visitor):
    texts = [str(number) * (number % 50 + 1) for number in range(2000)]
    assert await asyncio.gather(*(visitor.echo(text) for text in texts)) == texts
    [clients] = await visitor.redis.everywhere("INFO", "clients")
    assert parse_info(clients)["connected_clients"] == "1"


async def test_a_cancelled_caller_takes_no_reply_from_the_others(visitor: Visitor):
    await visitor.echo("connected")
    calls = [asyncio.create_task(visitor.echo(str(number))) for number in range(300)]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, str)] == [str(number) for number in range(300) if number % 3]
    assert await visitor.echo("later") == "later"


async def test_a_caller_cancelled_before_there_is_a_connection_leaves_it_to_the_others(visitor: Visitor):
    first, second = asyncio.create_task(visitor.echo("a")), asyncio.create_task(visitor.echo("b"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "b"
    assert first.cancelled()


async def test_waiting_for_work_delays_no_other_call_and_leaves_nothing_behind(visitor: Visitor):
    waiting = asyncio.create_task(visitor.broker.wait_for_work(60))
    await until(lambda: visitor.connections("blpop"))
    assert await visitor.echo("meanwhile") == "meanwhile"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    async def gone() -> bool:
        return await visitor.connections("blpop") == 0

    await until(gone)


async def test_a_hanging_server_is_given_up_by_all_who_wait_and_found_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connection, "ANSWER_TIMEOUT", 0.2)
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.2)
    with running_valkey() as server:
        visitor = Visitor(server.url)
        await visitor.broker.promote()
        with server.frozen():
            outcomes = await asyncio.gather(*(visitor.broker.promote() for _ in range(20)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {RedisUnavailable}
        assert await visitor.echo("again") == "again"
        await visitor.redis.aclose()


async def test_who_answers_and_is_no_redis_is_given_up_at_once():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        visitor = Visitor(f"redis://127.0.0.1:{port}")
        with pytest.raises(RedisUnavailable, match="what answers there is no Redis"):
            await visitor.broker.promote()
        await visitor.redis.aclose()


class _Level(IntEnum):
    HIGH = 5


@pytest.mark.parametrize("value", [True, None, Decimal("1.5"), _Level, "\ud800", ["a"]], ids=repr)
async def test_what_cannot_be_sent_takes_no_reply_from_the_others(visitor: Visitor, value: object):
    await visitor.echo("connected")
    before = [asyncio.create_task(visitor.echo(f"before {number}")) for number in range(20)]
    await asyncio.sleep(0)
    with pytest.raises(Invalid, match="ECHO: an argument cannot be sent to Redis"):
        await visitor.redis.round_trip([Routed("", ("ECHO", "first")), Routed("", ("ECHO", value))])
    assert await asyncio.gather(*before, visitor.echo("after")) == [*(f"before {number}" for number in range(20)), "after"]


async def test_a_connection_that_could_not_be_written_to_is_cut(visitor: Visitor, monkeypatch: pytest.MonkeyPatch):
    wire = await visitor.redis._shared()
    before = asyncio.create_task(visitor.echo("before"))
    await asyncio.sleep(0)
    with monkeypatch.context() as broken:
        broken.setattr(wire, "_transport", _Unwritable(wire._transport))
        with pytest.raises(RuntimeError, match="broken"):
            await visitor.echo("lost")
    with pytest.raises(ConnectionError):
        await before
    assert await visitor.echo("after") == "after"


class _Unwritable:
    def __init__(self, transport: asyncio.Transport) -> None:
        self.is_closing, self.abort = transport.is_closing, transport.abort

    def write(self, data: bytes) -> None:
        raise RuntimeError("broken")
