"""The application that every recorded version has run, and that every later one must finish. It may only use what the oldest had.

    python journal.py fill one|two|three      enqueue what a record needs, in three acts
    python journal.py send 100                enqueue so many of all kinds

Every run writes a line into a journal in Redis: which task, in which attempt, by which version.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime

from redis.asyncio import Redis

from stoker import Concurrency, Context, Dead, Jitter, Retry, Stoker, Unique

QUEUE, JOURNAL, TOGETHER, GO = "journal", "the-journal", "together", "go"
BY = os.environ.get("JOURNALIST", "somebody")
NEXT_CENTURY = datetime(2101, 1, 1, tzinfo=UTC)
app = Stoker("journal")


@app.task(queue=QUEUE)
async def write(line: str, ctx: Context) -> str:
    """The plain case."""
    await note(ctx)
    return line


@app.task(queue=QUEUE)
async def hold(ctx: Context) -> None:
    """Runs until it is told to go on."""
    await note(ctx)
    async with Redis.from_url(app.redis_url) as redis:
        while not await redis.exists(GO):  # noqa: ASYNC110 (a word from another process)
            await asyncio.sleep(0.02)


@app.task(queue=QUEUE, retry=Retry(max_retries=3, initial_delay=4, multiplier=1, jitter=Jitter.NONE))
async def fail_once(ctx: Context) -> int:
    """Its second attempt succeeds."""
    if ctx.attempt == 1:
        raise ConnectionError("not yet")
    return ctx.attempt


@app.task(queue=QUEUE)
async def refuse() -> str:
    """Dead, until it is told to go on."""
    async with Redis.from_url(app.redis_url) as redis:
        if not await redis.exists(GO):
            raise Dead("not as long as nobody says go")
    return "gone"


@app.task(queue=QUEUE, retry=Retry(max_retries=3, initial_delay=0.1, multiplier=1, jitter=Jitter.NONE))
async def stumble(ctx: Context) -> None:
    """Its second attempt succeeds, soon."""
    await note(ctx)
    if ctx.attempt == 1:
        raise ConnectionError("not yet")


@app.task(queue=QUEUE)
async def pair_off(ctx: Context) -> None:
    """How many of these run at a time is written down."""
    async with Redis.from_url(app.redis_url) as redis:
        await redis.rpush(TOGETHER, await redis.incr("now"))
        await note(ctx)
        await asyncio.sleep(0.02)
        await redis.decr("now")


async def note(ctx: Context) -> None:
    """A line in the journal."""
    async with Redis.from_url(app.redis_url) as redis:
        await redis.rpush(JOURNAL, f"{ctx.id} {ctx.attempt} {BY}")


async def fill(act: str) -> None:
    """What is enqueued before the first worker, before the second, and after both are gone."""
    key = Concurrency("one at a time", limit=1)
    match act:
        case "one":
            await write.options(id="kept").enqueue("a result")
            await fail_once.options(id="retried").enqueue()
            await refuse.options(id="dead", priority=7).enqueue()
            await hold.options(id="suspect").enqueue()
        case "two":
            await hold.options(id="running", priority=50).enqueue()
            await hold.options(id="keyed", priority=49, concurrency=key).enqueue()
            await hold.options(id="parked", priority=48, concurrency=key).enqueue()
            await hold.options(id="other", priority=47).enqueue()
        case "three":
            for name, priority in (("low", -3), ("plain", 0), ("high", 5)):
                await write.options(id=name, priority=priority).enqueue(name)
            await write.options(id="soon", delay=3, priority=2).enqueue("soon")
            await write.options(id="far", run_at=NEXT_CENTURY).enqueue("far")
            await write.options(id="only", delay=2, unique=Unique(until="done", key=lambda line: "same")).enqueue("only")
            gone = await write.options(id="gone", delay=100).enqueue("gone")
            await gone.cancel()
    await app.close()


async def send(count: int) -> None:
    """Plain ones, delayed ones, some that fail first, and some of which two may run at a time."""
    pair = Concurrency("a pair", limit=2)
    calls = []
    for number in range(count):
        match number % 4:
            case 0:
                calls.append(write.options(id=f"{BY}-{number}").prepare(str(number)))
            case 1:
                calls.append(write.options(id=f"{BY}-{number}", delay=0.5, priority=3).prepare(str(number)))
            case 2:
                calls.append(stumble.options(id=f"{BY}-{number}").prepare())
            case _:
                calls.append(pair_off.options(id=f"{BY}-{number}", concurrency=pair).prepare())
    await app.enqueue_many(calls)
    await app.close()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fill", act]:
            asyncio.run(fill(act))
        case ["send", number]:
            asyncio.run(send(int(number)))
