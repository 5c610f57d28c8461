"""What a task is given besides its arguments: nobody who enqueues it gives that, and a plain call gives all of it."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, assert_type

from stoker import INJECTED, Context, Depends, Handle, Prepared, State, Stoker


class Shop:
    stock: int = 3


class Session:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop


@asynccontextmanager
async def lifespan(app: Stoker) -> AsyncGenerator[Shop]:
    yield Shop()


async def get_session(shop: State[Shop]) -> AsyncIterator[Session]:
    assert_type(shop, Shop)
    yield Session(shop)


def get_number() -> Iterator[int]:
    yield 7


Db = Annotated[Session, Depends(get_session)]
app = Stoker("shop", lifespan=lifespan)
app.dependency_overrides[get_number] = lambda: 8


@app.task()
async def first(ctx: Context, to: str, order: int = 7) -> str:
    ctx.log.info("sending to %s", to)
    assert_type(ctx.attempt, int)
    await ctx.progress(1, 2, "half")
    if order < 0:
        raise ctx.retry(delay=1)
    ctx.enqueue(only.prepare())
    return f"{to} {order}"


@app.task()
def first_in_a_thread(ctx: Context, to: str) -> int:
    return len(to) + ctx.attempt


@app.task()
async def only(ctx: Context) -> int:
    return ctx.attempt


@app.task()
async def last(to: str, ctx: Context = INJECTED) -> str:
    return f"{to} {ctx.id}"


@app.task()
def in_the_middle(to: str, ctx: Context = INJECTED, order: int = 7) -> str:
    return f"{to} {ctx.id} {order}"


@app.task()
async def by_name(to: str, *, ctx: Context = INJECTED, order: int) -> str:
    return f"{to} {ctx.id} {order}"


@app.task()
async def if_there_is_one(to: str, ctx: Context | None = None) -> str:
    return f"{to} {ctx.id if ctx else None}"


@app.task()
async def everything(
    ctx: Context,
    order: int,
    shop: State[Shop] = INJECTED,
    db: Db = INJECTED,
    session: Session = Depends(get_session),
    number: Annotated[int, Depends(get_number)] = INJECTED,
) -> bool:
    assert_type(shop, Shop)
    assert_type(db, Session)
    return shop is db.shop is session.shop and number > ctx.attempt


@app.task()
async def takes_anything(value: object, note: str) -> str:
    return f"{value!r} {note}"


@app.task()
def takes_anything_in_a_thread(value: object = None) -> int:
    return hash(str(value))


@app.task()
async def takes_whatever(payload: Any, note: str) -> str:
    return f"{payload} {note}"


async def enqueue() -> None:
    assert_type(await first.enqueue("a@example.org", order=8), Handle[str])
    assert_type(await first.enqueue(to="a@example.org"), Handle[str])
    assert_type(await first.options(delay=1).enqueue("a@example.org"), Handle[str])
    assert_type(first.prepare("a@example.org"), Prepared[object, str])
    assert_type(first_in_a_thread.enqueue_sync("a@example.org"), Handle[int])
    assert_type(await only.enqueue(), Handle[int])
    assert_type(await last.enqueue("a@example.org"), Handle[str])
    assert_type(await in_the_middle.enqueue("a@example.org", order=8), Handle[str])
    assert_type(await by_name.enqueue("a@example.org", order=8), Handle[str])
    assert_type(await if_there_is_one.enqueue("a@example.org"), Handle[str])
    assert_type(await everything.enqueue(7), Handle[bool])
    assert_type(await takes_anything.enqueue(value=[1, 2], note="x"), Handle[str])
    assert_type(await takes_anything_in_a_thread.enqueue("x"), Handle[int])
    await takes_whatever.enqueue({"a": 1}, note="x")
    await takes_whatever.enqueue(payload={"a": 1}, note="x")


async def call(ctx: Context, shop: Shop, session: Session) -> None:
    assert_type(await first(ctx, "a@example.org"), str)
    assert_type(await first(ctx=ctx, to="a@example.org", order=7), str)
    assert_type(first_in_a_thread(ctx, to="a@example.org"), int)
    assert_type(await only(ctx), int)
    assert_type(await last("a@example.org", ctx), str)
    assert_type(await last("a@example.org", ctx=ctx), str)
    assert_type(await everything(ctx, 7, shop=shop, db=session, session=session, number=1), bool)
    assert_type(await takes_anything(value=1, note="x"), str)
