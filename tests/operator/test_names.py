"""Lookups of host names: a slow resolver of one tenant delays no other."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from stoker.rules.identity import QueueId
from stoker_operator.queues import names
from stoker_operator.queues.names import AT_ONCE, SLOW, NamesLoop, lookups_of
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.state.problem import Reason
from tests.redis_servers import Valkey


class Resolver:
    """Hangs for names under `slow`, until the test ends."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []

    def look_up(self, host: str, *rest: Any) -> Any:
        self.asked.append(host)
        if "slow" in host:
            self.released.wait(30)
            raise socket.gaierror("slow")
        return socket.getaddrinfo("127.0.0.1" if host == "good" else host, *rest)


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    made = Resolver()
    yield made
    made.released.set()


def run(resolver: Resolver, work: Any) -> Any:
    with asyncio.Runner(loop_factory=lambda: NamesLoop(resolver.look_up)) as runner:
        return runner.run(work)


def test_forty_slow_names_of_tenants_leave_a_good_one_readable(resolver: Resolver, shared_valkey: Valkey) -> None:
    slow = [
        url
        for number in range(10)
        for url in (
            f"redis://slow{number}:1",
            f"rediss://slow-tls{number}:1",
            f"redis+sentinel://slow-s{number}:1,slow-t{number}:1/main",
            f"redis+cluster://slow-c{number}:1,slow-d{number}:1",
        )
    ]

    async def work() -> None:
        pool = RedisPool(0.3)
        queue = [[QueueId("shop", "a")]]
        for _ in range(2):
            stuck = [asyncio.create_task(pool.read(url, queue)) for url in slow]
            await asyncio.sleep(0.05)
            patient = RedisPool(5.0)
            [reading] = await patient.read(f"redis://good:{shared_valkey.port}/0", queue)
            assert reading.stats, reading.problem
            await patient.close()
            for [reading] in await asyncio.gather(*stuck):
                assert reading.problem
                assert reading.problem.reason is Reason.REDIS_UNREACHABLE
        await pool.close()

    run(resolver, work())
    # Each name is looked up once although it was wanted in every round.
    assert all(resolver.asked.count(host) == 1 for host in resolver.asked if "slow" in host)


def test_one_redis_has_a_few_lookups_at_a_time_and_the_api_server_its_own(resolver: Resolver) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        with lookups_of("redis://hostile"):
            stuck = [asyncio.create_task(loop.getaddrinfo(f"slow{number}", 1)) for number in range(AT_ONCE)]
            await asyncio.sleep(0)
            with pytest.raises(OSError, match="too many names are being looked up"):
                await loop.getaddrinfo("another", 1)
        assert await loop.getaddrinfo("good", 1)
        with lookups_of("redis://other"):
            assert await loop.getaddrinfo("good", 1)
        for each in stuck:
            each.cancel()

    run(resolver, work())


def test_however_many_slow_names_there_are_they_share_a_few_threads(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leave room for the first lookup of another Redis, and for the operator's own."""
    monkeypatch.setattr(names, "PATIENCE", 0.05)

    async def asked(redis: str, host: str) -> None:
        with lookups_of(redis), contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(0.1):
                await asyncio.get_running_loop().getaddrinfo(host, 1)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        crowd = [(f"redis://slow-{number}", f"slow-{number}") for number in range(SLOW)]
        await asyncio.gather(*(asked(*each) for each in crowd))  # now known as slow, and still under way
        begun = len(resolver.asked)
        await asyncio.gather(*(asked(redis, f"another-{host}") for redis, host in crowd))
        assert len(resolver.asked) == begun == SLOW
        for redis in ("redis://good", ""):
            with lookups_of(redis):
                assert await loop.getaddrinfo("good", 1)

    run(resolver, work())


def test_what_is_no_host_name_is_an_error_like_any_other(resolver: Resolver) -> None:
    async def work() -> None:
        with pytest.raises(OSError, match="no host name"):
            await asyncio.get_running_loop().getaddrinfo("a" * 300 + ".example", 1)

    run(resolver, work())
