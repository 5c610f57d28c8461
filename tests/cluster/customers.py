"""Those who enqueue tasks, as programs of their own: one speaks HTTP to the gateway, one uses the application's own code.

    customers.py http FIRST COUNT      GATEWAY_URL says where
    customers.py python FIRST COUNT    STOKER_REDIS_URL and STOKER_NAMESPACE say where

Each enqueues COUNT orders, numbered from FIRST, under ids of its own, and prints these ids as a JSON list.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterable

import httpx
from shop.tasks import app

AT_ONCE = 16
RETRIES = 10
"""Beyond chance: the application fails one time in ten on purpose, and none of these is meant to die of it."""


def wanted(order: int) -> tuple[str, dict[str, object]]:
    """Every third order is an invoice, which overtakes the mails."""
    if order % 3 == 0:
        return "render_invoice", {"order": order, "lines": 7}
    return "send_email", {"to": f"customer-{order}@example.org", "order": order}


async def by_http(orders: Iterable[int]) -> list[str]:
    """One POST for each order, a few at a time, as a web shop would."""
    waiting = list(orders)
    taken: list[str] = []
    async with httpx.AsyncClient(base_url=os.environ["GATEWAY_URL"], timeout=30) as client:

        async def buy() -> None:
            while waiting:
                order = waiting.pop(0)
                task, payload = wanted(order)
                body = {"task": task, "queue": "emails", "payload": payload, "id": f"order-{order}", "max_retries": RETRIES}
                answer = await client.post("/v1/tasks", json=body)
                if answer.status_code != 202:
                    raise SystemExit(f"POST /v1/tasks answered {answer.status_code}: {answer.text}")
                taken.append(answer.json()["task_id"])

        await asyncio.gather(*(buy() for _ in range(AT_ONCE)))
    return taken


async def by_python(orders: Iterable[int]) -> list[str]:
    """All orders in a few round trips, by the application's own tasks."""
    calls = []
    for order in orders:
        task, payload = wanted(order)
        options = app.tasks[task].options(id=f"order-{order}", retry=RETRIES)
        calls.append(options.prepare(**payload))
    receipts = await app.enqueue_many(calls)
    await app.close()
    return [receipt.id for receipt in receipts]


if __name__ == "__main__":
    way, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    enqueue = {"http": by_http, "python": by_python}[way]
    print(json.dumps(asyncio.run(enqueue(range(first, first + count)))))
