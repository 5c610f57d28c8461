"""Application of the stories that need a worker process (test_workers, test_groups, ...): it notes in Redis what ran."""

import asyncio
import os
import time

from redis.asyncio import Redis

from stoker import Context, Stoker

app = Stoker("bakery")


async def note(line: str) -> None:
    async with Redis.from_url(app.redis_url) as redis:
        await redis.rpush("bakery:notes", line)  # type: ignore[misc]


@app.task()
async def bake(seconds: float, ctx: Context) -> int:
    """Bake for a while."""
    await note(f"start {ctx.id} {ctx.attempt}")
    await asyncio.sleep(seconds)
    await note(f"end {ctx.id} {ctx.attempt}")
    return ctx.attempt


@app.task()
async def watch(ctx: Context) -> None:
    """Bake until somebody opens the oven."""
    await note(f"start {ctx.id} {ctx.attempt}")
    async with Redis.from_url(app.redis_url) as redis:
        await redis.blpop("bakery:open")  # type: ignore[misc]


@app.task()
async def bake_once(ctx: Context) -> int:
    """Take for ever the first time, and no time afterwards."""
    await note(f"start {ctx.id} {ctx.attempt}")
    if ctx.attempt == 1:
        await asyncio.sleep(3600)
    return ctx.attempt


@app.task()
async def rise(seconds: float, ctx: Context) -> int:
    """Take a while, and write nothing down."""
    await asyncio.sleep(seconds)
    return ctx.attempt


@app.task()
def knead(seconds: float) -> str:
    """Work with both hands: a plain function."""
    time.sleep(seconds)
    return "dough"


@app.task()
async def where() -> int:
    """The process it runs in."""
    return os.getpid()


@app.task()
async def hoard(mebibytes: int) -> int:
    """Keep memory that is never given back. The process it runs in."""
    _HOARD.append(os.urandom(1 << 20) * mebibytes)
    return os.getpid()


@app.task()
async def oversleep(seconds: float) -> None:
    """Block the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251


@app.task()
async def collapse() -> None:
    """Take the whole process along."""
    os._exit(9)


_HOARD: list[bytes] = []


@app.task(queue="ovens")
async def oven(loaf: int, ctx: Context) -> int:
    """Add one, in another queue; note every run."""
    await note(f"oven {ctx.id} {ctx.attempt}")
    return loaf + 1


@app.task()
async def shape(loaf: int, ctx: Context) -> int:
    """Add one; note every run, and take a moment, so that there is a time to be killed in."""
    await note(f"shape {ctx.id} {ctx.attempt}")
    await asyncio.sleep(0.05)
    return loaf + 1


@app.task()
async def basket(loaves: list[int], ctx: Context) -> int:
    """How many loaves there are; note every run."""
    await note(f"basket {ctx.id} {ctx.attempt}")
    return sum(loaves)


@app.task(queue="north")
async def mill(sacks: int) -> int:
    """Grind: one more than there was."""
    return sacks + 1


@app.task(queue="south")
async def sell(loaves: int) -> int:
    """Ten times as much."""
    return loaves * 10


@app.task(queue="west")
async def count(coins: list[int]) -> int:
    """All together."""
    return sum(coins)
