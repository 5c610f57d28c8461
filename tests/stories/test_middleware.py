"""Middleware: what an application wraps around every run, and around every enqueue."""

import asyncio
import contextvars
from typing import Any

import msgspec
import pytest
from working import AT_ONCE, working

from stoker import Context, Dead, Invalid, Stoker, TaskFailed
from stoker.client import TaskCall
from stoker.middleware import EnqueueNext, RunNext
from stoker.queue.broker import Receipt
from stoker.rules.states import State

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")


async def test_the_first_layer_is_the_outermost(app: Stoker) -> None:
    steps: list[str] = []

    @app.middleware("run")
    async def outer(ctx: Context, call_next: RunNext) -> Any:
        steps.append(f"outer before {ctx.task}")
        result = await call_next(ctx)
        steps.append("outer after")
        return result

    @app.middleware("run")
    async def inner(ctx: Context, call_next: RunNext) -> Any:
        steps.append("inner before")
        result = await call_next(ctx)
        steps.append("inner after")
        return result + 1

    @app.task()
    async def add(a: int, b: int) -> int:
        steps.append("the task")
        return a + b

    async with working(app):
        assert await (await add.enqueue(2, 3)).result(timeout=5) == 6
    assert steps == ["outer before add", "inner before", "the task", "inner after", "outer after"]


async def test_a_layer_sees_the_failure_and_may_make_another_of_it(app: Stoker) -> None:
    runs: list[int] = []

    @app.middleware("run")
    async def hopeless_when_gone(ctx: Context, call_next: RunNext) -> Any:
        runs.append(ctx.attempt)
        try:
            return await call_next(ctx)
        except LookupError as error:
            raise Dead(f"gone for good: {error}") from error

    @app.task(retry=AT_ONCE)
    async def ship(order: int) -> None:
        raise LookupError(f"order {order}")

    handle = await ship.enqueue(7)
    async with working(app):
        with pytest.raises(TaskFailed, match="gone for good: order 7"):
            await handle.result(timeout=5)
    assert runs == [1]


async def test_a_layer_may_answer_by_itself(app: Stoker) -> None:
    @app.middleware("run")
    async def holiday(ctx: Context, call_next: RunNext) -> Any:
        return "closed"

    @app.task()
    async def bake() -> str:
        raise AssertionError("never runs")

    async with working(app):
        assert await (await bake.enqueue()).result(timeout=5) == "closed"


async def test_the_time_limit_is_for_the_layers_too(app: Stoker) -> None:
    @app.middleware("run")
    async def slow(ctx: Context, call_next: RunNext) -> Any:
        await asyncio.sleep(60)

    @app.task(timeout=0.1)
    async def quick() -> None: ...

    handle = await quick.options(retry=0).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            await handle.result(timeout=5)


async def test_what_a_layer_sets_is_seen_by_the_task_and_its_thread(app: Stoker) -> None:
    @app.middleware("run")
    async def of_tenant(ctx: Context, call_next: RunNext) -> Any:
        tenant.set("acme")
        return await call_next(ctx)

    @app.task()
    async def on_the_loop() -> str:
        return tenant.get()

    @app.task()
    def in_a_thread() -> str:
        return tenant.get()

    async with working(app):
        assert await (await on_the_loop.enqueue()).result(timeout=5) == "acme"
        assert await (await in_a_thread.enqueue()).result(timeout=5) == "acme"
    assert tenant.get() == "nobody"


async def test_around_an_enqueue_a_layer_may_change_the_call(app: Stoker) -> None:
    @app.middleware("enqueue")
    async def hurry(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        return await call_next(msgspec.structs.replace(call, priority=9))

    @app.task()
    async def ship(order: int) -> None: ...

    handle = await ship.enqueue(1)
    [receipt] = await app.enqueue_many([ship.options().prepare(2)])
    assert [(await app.client.status("default", each)).priority for each in (handle.id, receipt.id)] == [9, 9]


async def test_a_layer_sees_the_receipt(app: Stoker) -> None:
    seen: list[Receipt] = []

    @app.middleware("enqueue")
    async def watch(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        receipt = await call_next(call)
        seen.append(receipt)
        return receipt

    @app.task()
    async def ship(order: int) -> None: ...

    handle = await ship.enqueue(1)
    assert seen == [Receipt(handle.id, State.READY)]


async def test_many_calls_go_together_in_their_order_however_long_their_layers_take(app: Stoker) -> None:
    @app.middleware("enqueue")
    async def uneven(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        if bytes(call.payload) == b'{"number":0}':
            await asyncio.sleep(0.02)
        return await call_next(call)

    @app.task()
    async def step(number: int) -> None: ...

    sendings: list[int] = []
    send = app.client.send

    async def counted(calls: Any) -> list[Receipt]:
        sendings.append(len(calls))
        return await send(calls)

    app.client.send = counted  # type: ignore[method-assign]
    receipts = await app.enqueue_many([step.options().prepare(number) for number in range(50)])
    assert sendings == [50]
    line = (await app.client.inspector.tasks("default", State.READY)).tasks
    assert [task.id for task in line] == [receipt.id for receipt in receipts]
    assert [bytes(task.payload) for task in line] == [b'{"number":%d}' % number for number in range(50)]


async def test_one_call_that_a_layer_refuses_keeps_the_others_back(app: Stoker) -> None:
    """As with any bad call: all are checked before the first is sent."""

    @app.middleware("enqueue")
    async def no_thirteen(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        if b"13" in bytes(call.payload):
            raise ValueError("not that one")
        return await call_next(call)

    @app.task()
    async def step(number: int) -> None: ...

    with pytest.raises(ValueError, match="not that one"):
        await app.enqueue_many([step.options().prepare(number) for number in range(20)])
    assert [stats.enqueued for stats in await app.client.inspector.stats(["default"])] == [0]


async def test_a_layer_may_keep_a_call_to_itself_or_send_it_twice(app: Stoker) -> None:
    @app.middleware("enqueue")
    async def odd(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        if bytes(call.payload) == b'{"number":1}':
            return Receipt("kept", None)
        receipt = await call_next(call)
        return receipt if bytes(call.payload) != b'{"number":2}' else await call_next(call)

    @app.task()
    async def step(number: int) -> None: ...

    receipts = await app.enqueue_many([step.options().prepare(number) for number in range(4)])
    assert receipts[1].id == "kept"
    assert [stats.ready for stats in await app.client.inspector.stats(["default"])] == [4]


async def test_a_layer_that_moves_a_call_to_another_queue_is_refused(app: Stoker) -> None:
    @app.middleware("enqueue")
    async def elsewhere(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        return await call_next(msgspec.structs.replace(call, queue="elsewhere"))

    @app.task()
    async def ship() -> None: ...

    with pytest.raises(Invalid, match="elsewhere"):
        await ship.enqueue()


def test_there_is_middleware_around_runs_and_enqueues_only() -> None:
    with pytest.raises(Invalid, match=r'middleware\("run"\)'):
        Stoker("shop").middleware("http")  # type: ignore[call-overload]
