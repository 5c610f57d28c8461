"""Middleware: what an application wraps around every run, and around every enqueue."""

import asyncio
import contextvars
from typing import Any

import msgspec
import pytest

from stoker import Context, Dead, Invalid, Stoker, TaskFailed, chain, group
from stoker.app.middleware import EnqueueNext, RunNext
from stoker.app.workflow import Chain
from stoker.manifest.policies import Lease
from stoker.queue.records import Receipt
from stoker.rules.call import TaskCall
from stoker.rules.durability import Durability
from stoker.rules.states import TaskState
from stoker.rules.units import Duration
from tests.stories.working import AT_ONCE, working
from tests.waiting import until

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


async def test_middleware_may_answer_without_calling_the_task(app: Stoker) -> None:
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
    assert seen == [Receipt(handle.id, TaskState.READY)]


async def test_many_calls_go_together_in_their_order_however_long_their_layers_take(app: Stoker) -> None:
    @app.middleware("enqueue")
    async def uneven(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        if bytes(call.payload) == b'{"number":0}':
            await asyncio.sleep(0.02)
        return await call_next(call)

    @app.task()
    async def step(number: int) -> None: ...

    sendings: list[int] = []
    send = app.client.enqueue

    async def counted(calls: Any) -> list[Receipt]:
        sendings.append(len(calls))
        return await send(calls)

    app.client.enqueue = counted  # type: ignore[method-assign]
    receipts = await app.enqueue_many([step.options().prepare(number) for number in range(50)])
    assert sendings == [50]
    line = (await app.client.inspector.tasks("default", TaskState.READY)).tasks
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
    assert [stats.totals.enqueued for stats in await app.client.inspector.stats(["default"])] == [0]


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


def stamped(app: Stoker) -> list[str]:
    """Have every task carry the tenant on whose behalf it was enqueued. Returns what the layer has seen of each, as they come."""
    seen: list[str] = []

    @app.middleware("enqueue")
    async def stamp(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        await asyncio.sleep(0)
        receipt = await call_next(msgspec.structs.replace(call, headers={**call.headers, "tenant": tenant.get()}))
        seen.append(f"{call.task} {call.in_workflow} {receipt.state} {receipt.id}")
        return receipt

    return seen


async def test_every_task_of_a_workflow_goes_through_it_when_it_is_sent(app: Stoker) -> None:
    seen = stamped(app)
    told: list[str] = []

    @app.task()
    async def add(a: int, b: int, ctx: Context) -> int:
        told.append(f"{a}+{b} for {ctx.headers['tenant']}, {ctx.headers.get('how')}")
        return a + b

    @app.task()
    async def total(numbers: list[int], ctx: Context) -> int:
        told.append(f"{numbers} for {ctx.headers['tenant']}")
        return sum(numbers)

    tenant.set("acme")
    quietly = add.options(headers={"how": "quietly"})
    handle = await chain(add.prepare(1, 2), group(add.piped(10), quietly.piped(20)), total.piped(), quietly.piped(1)).enqueue()
    fans = await group(add.prepare(5, 6), add.prepare(7, 8)).enqueue()
    tenant.set("nobody")
    later = ("add True None", "add True None", "total True None", "add True None")
    assert sorted(seen) == sorted(
        [
            *(f"{line} {task_id}" for line, task_id in zip(("add True ready", *later), handle.ids, strict=True)),
            *(f"add True None {task_id}" for task_id in fans.ids),
        ]
    ), "those that come later have ids, and no state yet"
    async with working(app):
        assert await handle.result(timeout=10) == 37
        assert await fans.result(timeout=10) == [11, 15]
    assert sorted(told) == sorted(
        [
            *("1+2 for acme, None", "3+10 for acme, None", "3+20 for acme, quietly", "[13, 23] for acme", "36+1 for acme, quietly"),
            *("5+6 for acme, None", "7+8 for acme, None"),
        ]
    )


@pytest.mark.parametrize("plain", [False, True], ids=["on the loop", "in a thread"])
async def test_what_a_running_task_sends_goes_through_it_too(app: Stoker, plain: bool) -> None:
    """With the context variables of where it was sent, though it goes only when the run has succeeded."""
    seen = stamped(app)
    told: list[str] = []

    @app.middleware("run")
    async def on_behalf(ctx: Context, call_next: RunNext) -> Any:
        token = tenant.set(ctx.headers["tenant"])
        try:
            return await call_next(ctx)
        finally:
            tenant.reset(token)

    @app.task()
    async def child(number: int, ctx: Context) -> int:
        told.append(f"{number} for {ctx.headers['tenant']}")
        return number + 1

    def send(ctx: Context) -> list[str]:
        first = ctx.enqueue(child.options(id="chosen", concurrency=None).prepare(1))
        tenant.set("globex")
        return [first, ctx.enqueue(chain(child.prepare(10), child.piped()))]

    if plain:

        @app.task(name="parent")
        def parent(ctx: Context) -> list[str]:
            return send(ctx)
    else:

        @app.task(name="parent")
        async def parent_here(ctx: Context) -> list[str]:
            return send(ctx)

    tenant.set("acme")
    # On a busy machine a lease of one second may end during a run, and its task runs again: that is told of elsewhere.
    async with working(app, lease=Lease(Duration(30))):
        ids = await (await app.tasks["parent"].enqueue()).result(timeout=30)
        await until(lambda: len(told) == 3)
    tenant.set("nobody")
    assert ids[0] == "chosen"
    assert sorted(told) == ["1 for acme", "10 for globex", "11 for globex"]
    # Sorted: the worker may have run the parent before its enqueue has returned here.
    assert sorted(line.rpartition(" ")[0] for line in seen) == [*["child True None"] * 3, "parent False ready"]
    assert set(ids) < {line.rpartition(" ")[2] for line in seen}


async def test_a_layer_that_refuses_what_a_run_sends_fails_the_run(app: Stoker) -> None:
    @app.middleware("enqueue")
    async def no_thirteen(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        if b"13" in bytes(call.payload):
            raise ValueError("not that one")
        return await call_next(call)

    @app.task()
    async def child(number: int) -> None: ...

    @app.task(retry=0)
    async def parent(ctx: Context) -> None:
        for number in (12, 13):
            ctx.enqueue(child.prepare(number))

    async with working(app):
        with pytest.raises(TaskFailed, match="ValueError: not that one"):
            await (await parent.enqueue()).result(timeout=5)
    [stats] = await app.client.inspector.stats(["default"])
    assert (stats.totals.enqueued, stats.ready) == (1, 0), "all or nothing"


BAD_LAYERS: dict[str, tuple[Any, str]] = {
    "elsewhere": (lambda call: msgspec.structs.replace(call, queue="elsewhere"), "to queue 'elsewhere'"),
    "its own id": (lambda call: msgspec.structs.replace(call, id="mine"), "id"),
    "another parameter": (lambda call: msgspec.structs.replace(call, into="b"), "from the task before it|may not change the id"),
    "no priority": (lambda call: msgspec.structs.replace(call, priority=1000), "bad priority 1000"),
    "a durability": (lambda call: msgspec.structs.replace(call, durability=Durability.REPLICATED), "durability"),
    "a time to live": (lambda call: msgspec.structs.replace(call, expires=60), "give expires as a datetime"),
    "nothing": (lambda call: None, "pass each one on, once"),
}


@pytest.mark.parametrize("kind", BAD_LAYERS)
async def test_what_cannot_be_said_of_a_task_in_a_workflow_is_refused(app: Stoker, kind: str) -> None:
    """And nothing of it is sent."""
    change, words = BAD_LAYERS[kind]

    @app.middleware("enqueue")
    async def odd(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        outgoing = change(call) if call.task == "child" else call
        return await call_next(outgoing) if outgoing else Receipt("kept", None)

    @app.task()
    async def child(number: int, b: int = 0) -> int:
        return number

    @app.task(retry=0)
    async def parent(ctx: Context) -> int:
        if ctx.headers:
            ctx.enqueue(chain(child.prepare(1), child.piped()))
        return 1

    with pytest.raises(Invalid, match=words):
        await chain(parent.prepare(), child.piped()).enqueue()
    with pytest.raises(Invalid, match=words):
        await group(child.prepare(1), child.prepare(2)).enqueue()
    handle = await parent.options(headers={"send": "yes"}).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match=words):
            await handle.result(timeout=5)
    [stats] = await app.client.inspector.stats(["default"])
    assert (stats.totals.enqueued, stats.ready) == (1, 0)


async def test_a_layer_that_sends_a_workflow_twice_is_refused(app: Stoker) -> None:
    @app.middleware("enqueue")
    async def twice(call: TaskCall, call_next: EnqueueNext) -> Receipt:
        await call_next(call)
        return await call_next(call)

    @app.task()
    async def child(number: int) -> int:
        return number

    for workflow in (chain(child.prepare(1), child.piped()), Chain(child.prepare(1))):
        with pytest.raises(Invalid, match="sends it twice"):
            await workflow.enqueue()


def test_there_is_middleware_around_runs_and_enqueues_only() -> None:
    with pytest.raises(Invalid, match=r'middleware\("run"\)'):
        Stoker("shop").middleware("http")  # type: ignore[call-overload]
