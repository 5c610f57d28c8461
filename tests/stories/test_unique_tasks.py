"""Enqueued once, however often it is sent."""

import asyncio
from collections.abc import Callable

import pytest

from stoker import Conflict, Invalid, RedisUnavailable, Stoker, Unique
from stoker.client.client import TRY_AGAIN_AFTER
from stoker.rules.states import TaskState
from tests.redis_proxy import wire_to
from tests.redis_servers import Valkey
from tests.stories.working import working
from tests.waiting import until


async def ready(app: Stoker) -> int:
    [stats] = await app.client.inspector.stats(["default"])
    return stats.ready


async def test_the_same_key_is_the_same_task(app: Stoker) -> None:
    runs = []

    @app.task()
    async def charge(order: int) -> int:
        runs.append(order)
        return order

    once = charge.options(idempotency_key="the order of Ada Lovelace, 10 December")
    first = await once.enqueue(42)
    again = await asyncio.gather(*(once.enqueue(order=42) for _ in range(20)))
    assert {handle.id for handle in again} == {first.id}
    assert (first.duplicate, {handle.duplicate for handle in again}) == (False, {True})
    async with working(app):
        assert await again[0].result(timeout=5) == 42
        late = await once.enqueue(42)
        assert (late.id, late.duplicate) == (first.id, True)
        assert await late.result(timeout=5) == 42, "its result is kept, and so is its key"
    assert runs == [42]


async def test_the_same_key_for_another_task_is_a_conflict(app: Stoker) -> None:
    @app.task()
    async def charge(order: int) -> None: ...

    @app.task()
    async def refund(order: int) -> None: ...

    await charge.options(idempotency_key="42").enqueue(42)
    for other in (charge.options(idempotency_key="42").enqueue(43), refund.options(idempotency_key="42").enqueue(42)):
        with pytest.raises(Conflict, match="idempotency key '42' belongs to another task in queue default"):
            await other
    assert not (await charge.options(idempotency_key="42", queue="other").enqueue(42)).duplicate, "a queue has its own keys"
    assert not (await charge.options(id="42").enqueue(43)).duplicate, "a key is no id"


async def test_an_id_and_a_key_are_one_too_many(app: Stoker) -> None:
    @app.task()
    async def charge(order: int) -> None: ...

    with pytest.raises(Invalid, match="either id or idempotency_key"):
        await charge.options(id="a", idempotency_key="b").enqueue(1)


async def test_an_enqueue_whose_answer_was_lost_makes_one_task(
    opened: Callable[[str], Stoker], shared_valkey: Valkey, redis_url: str
) -> None:
    """It reached Redis, and the connection broke before Redis could say so: sent again with its id, it is found there."""
    async with wire_to(shared_valkey) as wire:
        app = opened(wire.url)

        @app.task()
        async def ship(order: int) -> int:
            return order

        await ship.options(queue="other").enqueue(0)  # the script is known by now
        wire.answers_to_lose = len(TRY_AGAIN_AFTER)
        handle = await ship.enqueue(7)
        assert wire.lost == len(TRY_AGAIN_AFTER)
        assert not handle.duplicate, "the caller sent it once, and need not know how often it went over the wire"
        assert (await handle.status()).state is TaskState.READY
        assert await ready(app) == 1

        wire.answers_to_lose = 1
        later, now = await app.enqueue_many([ship.options(delay=60).prepare(8), ship.options(id="nine").prepare(9)])
        assert (later.state, later.duplicate) == (TaskState.SCHEDULED, False)
        assert (now.id, now.duplicate) == ("nine", True), "of an id of one's own nobody can tell"


async def test_an_enqueue_that_redis_never_answers_fails_soon(opened: Callable[[str], Stoker], own_valkey: Valkey) -> None:
    app = opened(own_valkey.url)

    @app.task()
    async def ship() -> None: ...

    own_valkey.stop()
    async with asyncio.timeout(5):
        with pytest.raises(RedisUnavailable):
            await ship.enqueue()


async def test_of_a_unique_task_only_one_waits(app: Stoker) -> None:
    may_end = asyncio.Event()

    @app.task(unique=Unique(until="started"))
    async def rebuild_index(shop: str) -> str:
        await may_end.wait()
        return shop

    first = await rebuild_index.enqueue("flowers")
    second = await rebuild_index.enqueue(shop="flowers")
    other = await rebuild_index.enqueue("bread")
    assert (second.id, second.duplicate) == (first.id, True)
    assert not other.duplicate
    async with working(app):
        await until(lambda: running(app, 2))
        third = await rebuild_index.enqueue("flowers")
        assert not third.duplicate, "what changed after the first has started is seen by the next"
        may_end.set()
        assert [await handle.result(timeout=5) for handle in (second, third)] == ["flowers", "flowers"]


async def test_of_a_unique_task_only_one_waits_or_runs(app: Stoker) -> None:
    may_end = asyncio.Event()

    @app.task(unique=Unique(until="done", key=lambda user, text: f"user {user}"))
    async def remind(user: int, text: str) -> None:
        await may_end.wait()

    first = await remind.enqueue(1, "hello")
    async with working(app):
        await until(lambda: running(app, 1))
        again, other = await remind.enqueue(1, "good morning"), await remind.enqueue(2, "hello")
        assert (again.id, again.duplicate, other.duplicate) == (first.id, True, False)
        assert not (await remind.options(unique=None).enqueue(1, "whatever they said")).duplicate
        by_text = remind.options(unique=Unique(key="hello"))
        assert not (await by_text.enqueue(1, "hello")).duplicate
        assert (await by_text.enqueue(3, "hello")).duplicate
        may_end.set()
        await again.result(timeout=5)
        assert not (await remind.enqueue(1, "good night")).duplicate


async def running(app: Stoker, count: int) -> bool:
    [stats] = await app.client.inspector.stats(["default"])
    return stats.running == count
