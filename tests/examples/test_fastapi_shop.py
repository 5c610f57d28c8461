"""examples/fastapi_shop: requests enqueue, a worker packs, and one dependency serves both."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.examples.stage import Stage, staged
from tests.redis_servers import Server
from tests.waiting import until


@pytest.fixture
async def stage(own_valkey: Server, tmp_path: Path) -> AsyncIterator[Stage]:
    with staged("fastapi_shop", own_valkey, tmp_path) as stage:
        stage.environment |= {"SHOP_DATABASE": str(tmp_path / "shop.sqlite3"), "UVICORN_PORT": "0"}
        yield stage


@pytest.fixture
async def shop(stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """The web application, as a browser sees it."""
    url = await stage.start("uvicorn").says(r"running on (http://\S+)")
    stage.places["localhost:8000"] = url
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client


async def packed(shop: httpx.AsyncClient, number: int, state: str = "succeeded") -> dict[str, object]:
    """The order once it has come to its end."""

    async def ended() -> dict[str, object] | None:
        order: dict[str, object] = (await shop.get(f"/orders/{number}")).json()
        return order if order["state"] in ("succeeded", "dead") else None

    order: dict[str, object] = await until(ended, 30)
    assert order["state"] == state, order
    return order


async def test_the_commands_of_the_page(stage: Stage, shop: httpx.AsyncClient) -> None:
    await stage.up()
    placed = json.loads(await stage.run("curl -X PUT"))
    assert placed["number"] == 7
    assert (await packed(shop, 7))["parcel"] == "3 x tea"
    assert json.loads(await stage.run("curl localhost:8000/orders"))["state"] == "succeeded"
    assert await stage.run("curl localhost:8000/stock") == "7"


async def test_many_requests_make_one_parcel_each(stage: Stage, shop: httpx.AsyncClient) -> None:
    orders = [(number, {"item": "tea"}) for number in range(8)]
    answers = await asyncio.gather(*(shop.put(f"/orders/{number}", json=order) for number, order in orders * 3))
    assert {answer.status_code for answer in answers} == {202}
    assert (await shop.put("/orders/7", json={"item": "cup"})).status_code == 409
    assert (await shop.get("/orders/7")).json()["state"] == "ready", "there is no worker yet, and nobody waits for one"
    await stage.up()
    await asyncio.gather(*(packed(shop, number) for number, _ in orders))
    assert (await shop.get("/stock/tea")).json() == 2, "eight parcels, though each was ordered three times"


async def test_what_cannot_be_packed_says_why_and_takes_nothing(stage: Stage, shop: httpx.AsyncClient) -> None:
    await stage.up()
    for number, order in enumerate([{"item": "cup", "amount": 3}, {"item": "gold"}]):
        await shop.put(f"/orders/{number}", json=order)
    assert (await packed(shop, 0, "dead"))["why"] == "not so many of cup are left"
    assert (await packed(shop, 1, "dead"))["why"] == "there is no gold"
    assert (await shop.get("/stock/cup")).json() == 2
    assert (await shop.get("/orders/99")).status_code == 404


async def test_while_redis_is_away_requests_are_answered_with_an_error(own_valkey: Server, shop: httpx.AsyncClient) -> None:
    assert (await shop.put("/orders/1", json={"item": "tea"})).status_code == 202
    own_valkey.stop()
    assert (await shop.put("/orders/2", json={"item": "tea"})).status_code == 503
    own_valkey.start()
    assert (await shop.put("/orders/2", json={"item": "tea"})).status_code == 202
