"""Enqueueing: a task takes the parameters of its function, and its handle gives what the function returns."""

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from stoker import Concurrency, Context, Handle, Jitter, Prepared, Receipt, Retry, Stoker, Task, TaskFailed, Unique

app = Stoker("shop", redis="redis://localhost:6379/0", namespace="shop")


@app.task(queue="emails", priority=5, timeout=30, soft_timeout=20, retry=Retry(max_retries=3, jitter=Jitter.FULL, on=(OSError,)))
async def send_email(to: str, subject: str = "hi", *, order: int) -> bytes:
    return f"{to} {subject} {order}".encode()


@app.task(executor="process", unique=Unique(until="started"), concurrency=Concurrency("order"), version=2, retry=1)
def render(order: int) -> dict[str, int]:
    return {"pages": order}


@app.task()
async def nothing() -> None: ...


async def enqueue() -> None:
    handle = await send_email.enqueue("a@example.org", "hello", order=7)
    assert_type(handle, Handle[bytes])
    assert_type(await handle.result(), bytes)
    assert_type(await handle.result(timeout=10), bytes)
    assert_type(await (await send_email.enqueue(to="a@example.org", order=7)).result(), bytes)
    assert_type(await (await render.enqueue(7)).result(), dict[str, int])
    assert_type(await (await nothing.enqueue()).result(), None)
    assert_type(handle.duplicate, bool)
    assert_type(send_email.prepare("a@example.org", order=7), Prepared[object, bytes])
    assert_type(await app.enqueue_many([render.prepare(order) for order in range(3)]), list[Receipt])
    try:
        await handle.result()
    except TaskFailed as failed:
        assert_type((failed.type, failed.message, failed.traceback), tuple[str, str, str])


def enqueue_without_a_loop() -> None:
    handle = send_email.enqueue_sync("a@example.org", order=7)
    assert_type(handle, Handle[bytes])
    assert_type(handle.result_sync(timeout=10), bytes)
    assert_type(render.options(delay=1).enqueue_sync(7).result_sync(), dict[str, int])
    assert_type(app.enqueue_many_sync([render.prepare(1)]), list[Receipt])


async def enqueue_with_options() -> None:
    call = send_email.options(
        delay=60, id="order-7", priority=9, retry=0, timeout=5, headers={"tenant": "a"}, queue="other", durability="fsynced"
    )
    assert_type(await call.enqueue("a@example.org", order=7), Handle[bytes])
    assert_type(call.prepare("a@example.org", order=7), Prepared[object, bytes])
    await render.options(run_at=datetime.now(UTC) + timedelta(days=1), expires=3600.0, unique=None, retry=Retry()).enqueue(7)
    await render.options(check_arguments=False).enqueue(7)


async def call_as_plain_python(ctx: Context) -> None:
    assert_type(await send_email("a@example.org", order=7), bytes)
    assert_type(render(7), dict[str, int])
    assert_type(render(order=7), dict[str, int])
    assert_type(await nothing(), None)


def take_tasks(any_task: Task[..., Any], of_an_order: Task[[int], dict[str, int]]) -> str:
    of_an_order.prepare(7)
    return any_task.name


take_tasks(send_email, nothing if False else render)
