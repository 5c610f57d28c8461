"""Middleware and lifespans of another shape."""

from collections.abc import AsyncGenerator
from typing import Any

from stoker import Context, EnqueueNext, RunNext, Stoker, TaskCall


async def no_context_manager(app: Stoker) -> AsyncGenerator[None]:
    yield


app = Stoker("shop", lifespan=no_context_manager)  # refused: arg-type reportArgumentType


@app.middleware("run")  # refused: type-var reportArgumentType
async def of_an_enqueue(call: TaskCall, call_next: EnqueueNext) -> Any:
    return await call_next(call)


@app.middleware("run")  # refused: type-var reportArgumentType
def not_async(ctx: Context, call_next: RunNext) -> int:
    return 7


@app.middleware("enqueue")  # refused: type-var reportArgumentType
async def gives_no_receipt(call: TaskCall, call_next: EnqueueNext) -> None:
    await call_next(call)


@app.middleware("result")  # refused: call-overload untyped-decorator reportCallIssue reportArgumentType
async def around_what(ctx: Context, call_next: RunNext) -> Any:
    return await call_next(ctx)
