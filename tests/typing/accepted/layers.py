"""Middleware and lifespan."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from stoker import Context, EnqueueNext, Receipt, RunNext, Stoker, TaskCall


@asynccontextmanager
async def lifespan(app: Stoker) -> AsyncGenerator[None]:
    yield


app = Stoker("shop", lifespan=lifespan)


@app.middleware("run")
async def timed(ctx: Context, call_next: RunNext) -> Any:
    return await call_next(ctx)


@app.middleware("enqueue")
async def noted(call: TaskCall, call_next: EnqueueNext) -> Receipt:
    return await call_next(call)


@app.middleware("run")
async def loosely_written(ctx: Context, call_next: Any) -> Any:
    return await call_next(ctx)
