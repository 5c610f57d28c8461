"""Odd values for every argument of every public call: accepted, or refused by name. No other caller gets a wrong reply."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import pytest
from msgspec.structs import replace

from stoker import Concurrency, Retry, Stoker, StokerError, Unique, chain, cron, every, group
from stoker.app.app import application_of
from stoker.client.client import Client
from stoker.errors import TryAgain
from stoker.rules.states import TaskState
from stoker.task.context import Context
from tests.stories.working import working


class Level(IntEnum):
    HIGH = 5


class Colour(StrEnum):
    RED = "red"


class Text(str):
    """As markupsafe.Markup."""


class Number(float):
    """As numpy.float64."""


ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 3, 10**30, 1.5, 0.0, float("nan"), float("inf"), 1j),
    *(Level.HIGH, Decimal("2.5"), Fraction(1, 3), Number(2)),
    *("", "text", "ünï", "\ud800", "a\nb", "x" * 5000, Text("safe"), Colour.RED, b"bytes", bytearray(b"x")),
    *([], [1], ("a",), {}, {"a": 1}, {1: 2}, {"a": "b"}, {Text("a"): Text("b")}, {"\ud800": "x"}, {"": ""}),
    *(datetime(2030, 1, 1), datetime(2030, 1, 1, tzinfo=UTC), datetime.max, datetime.min, timedelta(1)),
    *(object(), int, print, Retry(), Unique(), Concurrency("key")),
]
TIMES = ["delay", "run_at", "timeout", "soft_timeout", "expires"]
COMMON = ["id", "queue", "priority", "retry", "headers", "idempotency_key", "durability", *TIMES]
OPTIONS = [*COMMON, "unique", "concurrency"]
FIELDS = [*COMMON, "task", "payload", "max_retries", "expires_at", "claim", "limit", "into", "onward", "created", "version"]


async def refused_or_done(call: Callable[[], Any]) -> None:
    """Make this call. No error but Stoker's own passes."""
    with suppress(StokerError):
        found = call()
        if isinstance(found, Awaitable):
            await asyncio.wait_for(found, 5)


@asynccontextmanager
async def innocents(app: Stoker) -> AsyncIterator[None]:
    """Others who enqueue and ask over the same connection meanwhile: each must get its own reply."""
    client, going = app.client, True

    async def ask(number: int) -> int:
        rounds = 0
        while going:
            rounds += 1
            name = f"mine-{number}-{rounds}"
            handle = await app.tasks["innocent"].options(id=name).enqueue(number)
            assert handle.id == name
            status = await client.status("innocents", name)
            assert (status.id, status.task) == (name, "innocent")
        return rounds

    asking = [asyncio.create_task(ask(number)) for number in range(4)]
    await asyncio.sleep(0)
    yield
    going = False
    assert min(await asyncio.gather(*asking)) > 0


@pytest.fixture
def odd(app: Stoker) -> Stoker:
    @app.task(queue="innocents")
    async def innocent(n: int) -> None: ...

    @app.task()
    async def odd(n: Any = None) -> None: ...

    return app


@pytest.mark.parametrize("option", OPTIONS)
async def test_an_option_of_a_call(odd: Stoker, option: str) -> None:
    task = odd.tasks["odd"]
    async with innocents(odd):
        for value in ODD:
            await refused_or_done(lambda value=value: task.options(**{option: value}).enqueue())
        await asyncio.gather(*(refused_or_done(lambda value=value: task.options(**{option: value}).enqueue()) for value in ODD))
        for value in ODD:
            await refused_or_done(lambda value=value: task.options(**{option: value}).prepare())
            await refused_or_done(lambda value=value: chain(task.options(**{option: value}).prepare(), task.prepare()).enqueue())
            await refused_or_done(lambda value=value: group(task.options(**{option: value}).prepare(), task.prepare()).enqueue())


@pytest.mark.parametrize("field", FIELDS)
async def test_a_field_that_middleware_sets(odd: Stoker, field: str) -> None:
    call = odd.tasks["odd"].prepare()
    async with innocents(odd):
        for value in ODD:
            await refused_or_done(lambda value=value: odd.enqueue_many([replace(call, **{field: value})]))


async def test_an_argument_of_a_task(odd: Stoker) -> None:
    task = odd.tasks["odd"]
    async with innocents(odd):
        for value in ODD:
            await refused_or_done(lambda value=value: task.enqueue(value))
            await refused_or_done(lambda value=value: task.handle(value).status())
            await refused_or_done(lambda value=value: task.handle("x", queue=value).status())


@pytest.mark.parametrize(
    "option", ["queue", "name", "priority", "timeout", "soft_timeout", "retry", "unique", "concurrency", "executor", "version"]
)
async def test_an_option_of_a_declaration(odd: Stoker, option: str) -> None:
    async with innocents(odd):
        for at, value in enumerate(ODD):

            def declare(value: Any = value, at: int = at) -> Any:
                task = odd.task(**{"name": f"task {at}", option: value})(lambda: None)
                return task.enqueue()

            await refused_or_done(declare)


async def test_numbers_and_texts_of_policies(odd: Stoker) -> None:
    task = odd.tasks["odd"]
    async with innocents(odd):
        for value in ODD:
            for make in (
                lambda value=value: task.options(retry=Retry(max_retries=value)),
                lambda value=value: task.options(retry=Retry(initial_delay=value, multiplier=3)),
                lambda value=value: task.options(retry=Retry(multiplier=value)),
                lambda value=value: task.options(retry=Retry(max_delay=value)),
                lambda value=value: task.options(retry=Retry(jitter=value)),
                lambda value=value: task.options(unique=Unique(ttl=value)),
                lambda value=value: task.options(unique=Unique(until=value)),
                lambda value=value: task.options(unique=Unique(key=value)),
                lambda value=value: task.options(unique=Unique(key=lambda *_: value)),
                lambda value=value: task.options(concurrency=Concurrency("key", limit=value)),
                lambda value=value: task.options(concurrency=Concurrency(lambda *_: value)),
            ):
                await refused_or_done(lambda make=make: make().enqueue())
            await refused_or_done(lambda value=value: every(value))
            await refused_or_done(lambda value=value: cron(value))
            await refused_or_done(lambda value=value: cron("* * * * *", jitter=value))
            await refused_or_done(lambda value=value: cron("* * * * *", time_zone=value))


async def test_what_is_asked_of_an_inspector(odd: Stoker) -> None:
    async with innocents(odd):
        client: Client = application_of(odd).client
        inspector = client.inspector
        for value in ODD:
            for call in (
                lambda value=value: inspector.cancel("default", [value]),
                lambda value=value: inspector.redrive("default", [value]),
                lambda value=value: inspector.delete("default", [value]),
                lambda value=value: inspector.task("default", value),
                lambda value=value: inspector.explain("default", value),
                lambda value=value: inspector.find(value),
            ):
                await refused_or_done(call)


async def test_normalized_numbers_arrive(odd: Stoker) -> None:
    """What is accepted means what it says: the task runs with it."""
    task = odd.tasks["odd"]
    handle = await task.options(
        priority=Level.HIGH, timeout=Number(20), retry=Level.HIGH, headers={Text("a"): Text("b")}, id=Text("mine")
    ).enqueue()
    assert (handle.id, (await handle.status()).headers) == ("mine", {"a": "b"})
    async with working(odd):
        await handle.result(timeout=5)
    assert (await handle.status()).state is TaskState.SUCCEEDED


def test_a_context_takes_no_odd_retry() -> None:
    ctx = Context("id", "task", "queue", 1, "fence", None)  # type: ignore[arg-type]
    for value in ODD:
        for call in (
            lambda value=value: ctx.retry(delay=value),
            lambda value=value: ctx.retry(max_retries=value),
            lambda value=value: ctx.progress(value),
        ):
            with suppress(StokerError, TryAgain):
                call()
