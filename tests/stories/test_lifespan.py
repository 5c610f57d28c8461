"""What a worker process keeps open while it lives: entered before its first task, left after its last."""

import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import pytest

from stoker import Depends, Invalid, State, Stoker
from stoker.rules.states import TaskState
from tests.stories.apps import pantry
from tests.stories.working import WorkerProcess, working
from tests.waiting import until

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@dataclass
class Shop:
    """What the lifespan yields."""

    pool: str
    diary: list[str]


@asynccontextmanager
async def lifespan(app: Stoker) -> AsyncIterator[Shop]:
    shop = Shop("pool", ["open"])
    opened.append(shop)
    colour.set("red")
    yield shop
    shop.diary.append("close")


opened: list[Shop] = []


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    opened.clear()
    stoker = Stoker("shop", redis=redis_url, lifespan=lifespan)
    yield stoker
    await stoker.close()


async def test_tasks_are_given_what_it_yields(app: Stoker) -> None:
    @app.task()
    async def ship(order: int, shop: State[Shop]) -> str:
        shop.diary.append(f"ship {order}")
        return shop.pool

    handles = [await ship.enqueue(number) for number in (1, 2)]
    assert opened == []
    async with working(app, concurrency=1):
        assert [await handle.result(timeout=5) for handle in handles] == ["pool", "pool"]
        assert app.state is opened[0]
    assert [shop.diary for shop in opened] == [["open", "ship 1", "ship 2", "close"]]
    assert app.state is None


async def test_a_dependency_may_return_a_part_of_it(app: Stoker) -> None:
    def get_pool(shop: State[Shop]) -> str:
        return shop.pool

    @app.task()
    async def ship(pool: Annotated[str, Depends(get_pool)]) -> str:
        return pool

    async with working(app):
        assert await (await ship.enqueue()).result(timeout=5) == "pool"


async def test_context_variables_that_it_sets_are_seen_by_tasks_and_their_threads(app: Stoker) -> None:
    @app.task()
    async def on_the_loop() -> str:
        return colour.get()

    @app.task()
    def in_a_thread() -> str:
        return colour.get()

    async with working(app):
        assert await (await on_the_loop.enqueue()).result(timeout=5) == "red"
        assert await (await in_a_thread.enqueue()).result(timeout=5) == "red"


async def test_a_task_that_wants_something_else_keeps_the_worker_from_starting(app: Stoker) -> None:
    @app.task()
    async def ship(shop: State[int]) -> None:
        shipped.append(shop)

    shipped: list[object] = []
    handle = await ship.enqueue()
    with pytest.raises(Invalid, match=r"task ship wants State\[int\], and the lifespan of shop yields Shop"):
        async with working(app) as running:
            await until(running.done)
    status = await handle.status()
    assert (len(opened), shipped, status.state, status.attempts) == (1, [], TaskState.READY, 0)


async def test_a_shape_that_cannot_be_asked_about_is_taken_on_trust(app: Stoker) -> None:
    class Named(TypedDict):
        pool: str

    @app.task()
    async def ship(shop: State[Named]) -> str:
        return type(shop).__name__

    async with working(app):
        assert await (await ship.enqueue()).result(timeout=5) == "Shop"


async def test_a_lifespan_that_fails_at_its_end_loses_no_task(redis_url: str) -> None:
    @asynccontextmanager
    async def clumsy(_: Stoker) -> AsyncIterator[None]:
        yield
        raise OSError("the door is stuck")

    app = Stoker("shop", redis=redis_url, lifespan=clumsy)

    @app.task()
    async def ship() -> str:
        return "shipped"

    handle = await ship.enqueue()
    async with working(app):
        assert await handle.result(timeout=5) == "shipped"
    await app.close()


async def test_one_that_ends_too_early_takes_the_worker_with_it(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks without the pool they want would all be buried: they go back, and the process ends so that another takes its place."""
    monkeypatch.setenv("PANTRY", "collapsing")
    pantry.app.redis_url = redis_url
    handle = await pantry.fetch.enqueue("jam")
    worker = WorkerProcess(redis_url, tmp_path / "worker.log", app="pantry:app")
    assert await worker.exit_code() == 1
    assert "error: the lifespan of pantry ended while the worker ran: ExceptionGroup" in (tmp_path / "worker.log").read_text()
    status = await handle.status()
    await pantry.app.close()
    assert (status.state, status.attempts, status.losses) == (TaskState.READY, 0, 0)


async def test_one_that_fails_at_the_start_is_said_and_ends_the_process(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANTRY", "locked")
    worker = WorkerProcess(redis_url, tmp_path / "worker.log", app="pantry:app")
    assert await worker.exit_code() == 1
    said = (tmp_path / "worker.log").read_text()
    assert "error: the lifespan of pantry failed before its first task: ConnectionRefusedError: nobody has the key" in said
    assert "pantry.py" in said, "the traceback shows where"


async def test_while_it_takes_long_the_worker_is_not_ready_and_can_be_stopped(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    import httpx

    monkeypatch.setenv("PANTRY", "slow")
    worker = WorkerProcess(redis_url, tmp_path / "worker.log", app="pantry:app")
    await until(lambda: worker.said("worker started"))
    port = worker.said("worker started")[0]["port"]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        ready = await client.get("/readyz")
        assert (ready.status_code, "lifespan" in ready.text) == (503, True)
        assert (await client.get("/livez")).status_code == 200
    worker.signal(signal.SIGTERM)
    assert await worker.exit_code() == 0
