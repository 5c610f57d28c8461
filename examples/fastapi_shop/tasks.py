"""What the shop does when nobody waits: it packs parcels. Order and database are the same to the worker and to the web front."""

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from fastapi import Depends

from stoker import Dead, Stoker

DATABASE = os.environ.get("SHOP_DATABASE", "shop.sqlite3")
TABLES = """
CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, amount INTEGER CHECK (amount >= 0));
CREATE TABLE IF NOT EXISTS parcels (number INTEGER PRIMARY KEY, content TEXT);
INSERT OR IGNORE INTO stock VALUES ('tea', 10), ('cup', 2);
"""


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    """The tables are there before the first task, and before the first request."""
    with closing(sqlite3.connect(DATABASE)) as db:
        db.executescript(TABLES)
    yield


app = Stoker("shop", lifespan=lifespan)


@dataclass
class Order:
    """What is to go into one parcel."""

    item: str
    amount: int = 1


async def database() -> AsyncIterator[sqlite3.Connection]:
    """A connection for one run or one request, whose changes are committed when it succeeds and undone when it fails."""
    with closing(sqlite3.connect(DATABASE)) as db, db:
        yield db


@app.task(queue="orders", timeout=30)
async def pack(number: int, order: Order, db: sqlite3.Connection = Depends(database)) -> str:
    """Pack a parcel. A second run of the same order finds the parcel of the first."""
    if parcel := db.execute("SELECT content FROM parcels WHERE number = ?", [number]).fetchone():
        return str(parcel[0])
    content = f"{order.amount} x {order.item}"
    db.execute("INSERT INTO parcels VALUES (?, ?)", [number, content])
    try:
        taken = db.execute("UPDATE stock SET amount = amount - ? WHERE item = ?", [order.amount, order.item])
    except sqlite3.IntegrityError:
        raise Dead(f"not so many of {order.item} are left") from None
    if not taken.rowcount:
        raise Dead(f"there is no {order.item}")
    return content
