"""How long, and how many at once, requests wait for Redis: without a server, on an event loop alone."""

import asyncio
import inspect

import pytest

from stoker.client.client import Client
from stoker.errors import NotFound, RedisUnavailable
from stoker.gateway.backend import AT_ONCE, Backend
from stoker.redis.connect import connect


@pytest.fixture
def client() -> Client:
    """It sends nothing."""
    return Client.at("redis://127.0.0.1:1/0", "test")


async def test_a_limited_number_of_requests_use_redis_at_once(client: Client) -> None:
    busy = most = 0

    async def work(_: Client) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1

    backend = Backend(client)
    await asyncio.gather(*(backend.ask(work) for _ in range(3 * AT_ONCE)))
    assert most == AT_ONCE


def test_the_pool_has_room_for_them_all() -> None:
    assert inspect.signature(connect).parameters["max_connections"].default > AT_ONCE


async def test_work_that_ignores_its_cancellation_is_left_behind(client: Client) -> None:
    gate = asyncio.Event()

    async def stubborn(_: Client) -> None:
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue
        raise ConnectionError("nobody is interested any more")

    backend = Backend(client, patience=0.05)
    with pytest.raises(RedisUnavailable, match=r"within 0\.05 s"):
        await backend.ask(stubborn)
    gate.set()


async def test_what_the_work_raises_is_raised(client: Client) -> None:
    async def work(_: Client) -> None:
        raise NotFound("no such task")

    with pytest.raises(NotFound, match="no such task"):
        await Backend(client).ask(work)
