"""What is injected is nobody's to give, but in a plain call, where nothing is injected."""

from typing import Annotated

from stoker import INJECTED, Context, Depends, State, Stoker


class Shop:
    stock: int = 3


def get_shop() -> Shop:
    return Shop()


app = Stoker("shop")


@app.task()
async def first(ctx: Context, to: str, order: int = 7) -> str:
    print(ctx.colour)  # refused: attr-defined reportAttributeAccessIssue
    ctx.attempt = 2  # refused: misc reportAttributeAccessIssue
    return f"{to} {order}"


@app.task()
async def last(to: str, ctx: Context = INJECTED, shop: State[Shop] = INJECTED) -> str:
    number: int = shop  # refused: assignment reportAssignmentType
    return f"{to} {ctx.id} {number}"


@app.task()
async def not_said(to: str, ctx: Context, shop: Annotated[Shop, Depends(get_shop)]) -> str:
    return f"{to} {ctx.id} {shop.stock}"


@app.task()
def takes_anything(value: object, note: str) -> str:
    return f"{value!r} {note}"


async def enqueue(ctx: Context) -> None:
    await first.enqueue()  # refused: call-arg reportCallIssue
    await first.enqueue(7)  # refused: arg-type reportArgumentType
    await first.enqueue(ctx, "a@example.org")  # refused: arg-type reportArgumentType
    await first.enqueue("a@example.org", ctx=ctx)  # refused: call-arg reportCallIssue
    await first.options(delay=1).enqueue("a@example.org", "7")  # refused: arg-type reportArgumentType
    first.prepare("a@example.org", colour="red")  # refused: call-arg reportCallIssue
    await last.enqueue()  # refused: call-arg reportCallIssue
    await last.enqueue(7)  # refused: arg-type reportArgumentType
    await not_said.enqueue("a@example.org")  # refused: call-arg reportCallIssue
    await takes_anything.enqueue(note="x")  # refused: call-arg reportCallIssue
    await takes_anything.enqueue(7, 7)  # refused: arg-type reportArgumentType


async def call(ctx: Context) -> None:
    await first("a@example.org")  # refused: arg-type call-arg reportCallIssue
    await first(ctx)  # refused: call-arg reportCallIssue
    await first(ctx, 7)  # refused: arg-type reportArgumentType
    await last("a@example.org", ctx="ctx")  # refused: arg-type reportArgumentType
    await not_said("a@example.org")  # refused: call-arg reportCallIssue
