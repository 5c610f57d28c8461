"""examples/flask_shop: enqueuing from threads and from forked processes."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import httpx
import psutil
import pytest

from tests.examples.stage import Running, Stage, staged
from tests.redis_servers import Server
from tests.waiting import until

FRONT = "--bind 127.0.0.1:0 --access-logfile - --access-logformat 'served by %(p)s'"
ENQUEUES_BEFORE_THE_FORK = """
from tasks import Line, write_invoice
from web import web

write_invoice.options(id="invoice-0").enqueue_sync(0, [Line("tea", 1)])
"""


@pytest.fixture
async def stage(own_valkey: Server, tmp_path: Path) -> AsyncIterator[Stage]:
    with staged("flask_shop", own_valkey, tmp_path) as stage:
        (tmp_path / "forking.py").write_text(ENQUEUES_BEFORE_THE_FORK)
        stage.environment |= {"PYTHONPATH": str(tmp_path), "GUNICORN_CMD_ARGS": FRONT}
        stage.places["web:web"] = "forking:web"
        yield stage


@pytest.fixture
async def front(stage: Stage) -> Running:
    """The preforking server."""
    running = stage.start("gunicorn")
    stage.places["localhost:8000"] = await running.says(r"Listening at: (http://\S+)")
    return running


@pytest.fixture
async def shop(stage: Stage, front: Running) -> AsyncIterator[httpx.AsyncClient]:
    each_asks_anew = httpx.Limits(max_keepalive_connections=0)  # a kept connection stays with one process
    async with httpx.AsyncClient(base_url=stage.places["localhost:8000"], timeout=30, limits=each_asks_anew) as client:
        yield client


@contextmanager
def asleep(process: psutil.Process) -> Iterator[None]:
    """Whatever arrives meanwhile is for the others."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


async def test_threads_and_forked_processes_enqueue_and_wait(stage: Stage, front: Running, shop: httpx.AsyncClient) -> None:
    async def ask(order: int) -> None:
        """As a customer does who is in a hurry and asks twice."""
        path, lines = f"/orders/{order}/invoice", [{"item": "tea", "price": "1.05", "amount": order}]
        for answer in await asyncio.gather(*(shop.post(path, json=lines) for _ in range(2))):
            assert (answer.status_code, answer.headers["location"]) == (202, path)

    server = psutil.Process(front.process.pid)
    await until(lambda: len(server.children()) == 2)
    for process in server.children():
        with asleep(process):
            await asyncio.gather(*(ask(order) for order in range(1, 17)))
    await until(lambda: len(set(re.findall(r"served by <?(\d+)", front.log.read_text()))) == 2)
    assert (await shop.get("/orders/1/invoice")).status_code == 202, "there is no worker yet"
    await stage.up()
    for order in range(1, 17):
        invoice = (await shop.get(f"/orders/{order}/invoice?wait=20")).json()
        assert (invoice["order"], invoice["net"]) == (order, str(Decimal("1.05") * order))
    assert (await shop.get("/orders/0/invoice?wait=20")).json()["total"] == "1.19", "what was sent before the fork"
    [stats] = json.loads(await stage.shell("stoker stats --json"))
    assert (stats["totals"]["enqueued"], stats["totals"]["succeeded"]) == (17, 17), "one of each, however often they were asked for"


async def test_the_commands_of_the_page(stage: Stage, front: Running) -> None:
    await stage.up()
    assert json.loads(await stage.run("curl localhost:8000"))["state"]
    assert json.loads(await stage.run('curl "localhost:8000')) == {"order": 7, "net": "21.60", "total": "25.70"}


async def test_what_cannot_be_invoiced_says_why(stage: Stage, shop: httpx.AsyncClient) -> None:
    malformed = await shop.post("/orders/8/invoice", json=[{"item": "tea", "price": "dear"}])
    assert malformed.status_code == 400
    assert "$[0].price" in malformed.json()["detail"]
    assert (await shop.get("/orders/8/invoice")).status_code == 404
    await stage.up()
    assert (await shop.post("/orders/9/invoice", json=[])).status_code == 202
    empty = await shop.get("/orders/9/invoice?wait=20")
    assert (empty.status_code, "order 9 is empty" in empty.text) == (422, True)
    assert (await shop.post("/orders/9/invoice", json=[{"item": "tea", "price": "1"}])).status_code == 409
