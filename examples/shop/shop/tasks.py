"""The shop's background tasks: one that sometimes fails, one that computes, and one that never can succeed.

    stoker worker shop.tasks:app --queue emails

Every finished run is written into a ledger in Redis, so that a test can ask of each task: did it run?
"""

import asyncio
import os
import random
import time

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from stoker import Context, Dead, Retry, Stoker

app = Stoker("shop")
LEDGER = f"{{{app.namespace}}}:ledger"
"""Below the prefix of the namespace: on a cluster a worker's Redis user may write no other key."""
FAILING = float(os.environ.get("SHOP_FAILURE_RATE", "0.1"))


class SmtpBusyError(Exception):
    """The mail server wants us to come back later."""


@app.task(queue="emails")
async def send_email(ctx: Context, to: str, order: int) -> str:
    """Send a confirmation. One in ten attempts meets a busy mail server, and is retried."""
    await asyncio.sleep(random.uniform(0.01, 0.05))
    if random.random() < FAILING:
        raise SmtpBusyError(f"451 try again later, {to}")
    async with AsyncRedis.from_url(ledger_url()) as ledger:
        await ledger.hincrby(LEDGER, ctx.id, 1)
    return f"confirmed order {order} to {to}"


@app.task(queue="emails", priority=5)
def render_invoice(ctx: Context, order: int, lines: int) -> int:
    """Render an invoice, more urgent than a mail. A plain function: it runs in a thread."""
    time.sleep(0.02)
    with Redis.from_url(ledger_url()) as ledger:
        ledger.hincrby(LEDGER, ctx.id, 1)
    return lines * 72


@app.task(queue="emails", retry=Retry(max_retries=1, initial_delay=0.1))
async def charge_card(order: int, card: str) -> None:
    """Charge a card. An expired one is expired for good: no retry, straight into the dead letters."""
    if card == "expired":
        raise Dead(f"the card for order {order} has expired")


def ledger_url() -> str:
    """Where the ledger is; the queue's own Redis unless SHOP_LEDGER_URL says otherwise."""
    return os.environ.get("SHOP_LEDGER_URL", app.redis_url)
