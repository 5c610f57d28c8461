"""The application of script.Dockerfile: a task that takes its time, and writes into the shop's ledger when it begins and ends."""

import asyncio

from redis.asyncio import Redis
from shop.tasks import LEDGER, ledger_url

from stoker import Context, Stoker

app = Stoker("naps")


@app.task(queue="naps")
async def nap(ctx: Context, seconds: float) -> None:
    """Sleep."""
    async with Redis.from_url(ledger_url()) as ledger:
        await ledger.hincrby(LEDGER, f"{ctx.id} began", 1)
        await asyncio.sleep(seconds)
        await ledger.hincrby(LEDGER, f"{ctx.id} ended", 1)
