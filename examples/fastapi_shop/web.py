"""The shop's front: takes orders, answers at once, and tells what has become of them. `/docs` describes it."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import tasks
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from tasks import Order, app, database, pack

from stoker import Conflict, NotFound, RedisUnavailable, StokerError

Database = Annotated[sqlite3.Connection, Depends(database)]
STATUS_CODES = {NotFound: 404, Conflict: 409, RedisUnavailable: 503}


@asynccontextmanager
async def lifespan(web: FastAPI) -> AsyncIterator[None]:
    """A connection to Redis is opened by whoever first enqueues, shared by all, and closed here."""
    async with tasks.lifespan(web):
        yield
    await app.close()


web = FastAPI(title="Shop", lifespan=lifespan)


@dataclass
class Placed:
    """Where an order is."""

    number: int
    state: str
    parcel: str | None = None
    why: str | None = None


@web.put("/orders/{number}", status_code=202)
async def place(number: int, order: Order) -> Placed:
    """Have it packed. The same order again is the same task; another one under its number is a conflict."""
    handle = await pack.options(id=f"order-{number}").enqueue(number, order)
    return Placed(number, (await handle.status()).state)


@web.get("/orders/{number}")
async def look(number: int) -> Placed:
    """Its state, and the parcel once it is packed."""
    handle = pack.handle(f"order-{number}")
    status = await handle.status()
    return Placed(
        number,
        status.state,
        parcel=await handle.result() if status.state == "succeeded" else None,
        why=status.failure.message if status.failure else None,
    )


@web.get("/stock/{item}")
async def stock(item: str, db: Database) -> int:
    """How many are left."""
    if found := db.execute("SELECT amount FROM stock WHERE item = ?", [item]).fetchone():
        return int(found[0])
    raise HTTPException(404, f"there is no {item}")


@web.exception_handler(StokerError)
async def refused(_: Request, error: StokerError) -> JSONResponse:
    """What Stoker says, as HTTP says it."""
    return JSONResponse({"detail": str(error)}, STATUS_CODES.get(type(error), 500))
