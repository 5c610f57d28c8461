"""Application of test_arguments.py: arguments and results of all kinds, on the loop, in threads and in processes."""

import dataclasses
import enum
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
from pydantic import BaseModel, PositiveInt

from stoker import INJECTED, Context, Retry, Stoker

app = Stoker("parcels")


class Speed(enum.Enum):
    SLOW = "slow"
    FAST = "fast"


class Size(NamedTuple):
    width: int
    height: int


class Address(TypedDict):
    street: str
    city: str


@dataclasses.dataclass
class Receipt:
    total: Decimal
    due: date


class Parcel(msgspec.Struct):
    id: UUID
    weight: Annotated[float, msgspec.Meta(gt=0, le=30)]
    size: Size
    to: Address
    contents: bytes
    speed: Speed = Speed.SLOW
    receipts: list[Receipt] = []


class Item(BaseModel):
    name: str
    count: PositiveInt = 1


class Order(BaseModel):
    id: int
    items: list[Item]


@app.task()
async def send(
    ctx: Context,
    parcel: Parcel,
    at: datetime,
    within: timedelta | None,
    insured: Literal["yes", "no"],
    others: dict[str, list[Parcel]],
) -> tuple[Parcel, datetime, timedelta | None, str, dict[str, list[Parcel]]]:
    ctx.log.info("sending %s", parcel.id)
    return parcel, at, within, insured, others


@app.task()
async def pack(order: Order) -> Order:
    return order.model_copy(update={"items": [*order.items, Item(name="a card")]})


@app.task()
def count(orders: list[Order], by_name: dict[str, Item] | None = None) -> int:
    return sum(item.count for order in orders for item in [*order.items, *(by_name or {}).values()])


@app.task(executor="process")
def pack_in_a_process(ctx: Context, order: Order, more: Item | None = None) -> Order:
    assert isinstance(order, Order)
    return order.model_copy(update={"id": order.id + ctx.attempt, "items": [*order.items, *([more] if more else [])]})


@app.task(retry=Retry(max_retries=3, initial_delay=0.01))
async def never_with_wrong_arguments(order: Order, parcels: list[Parcel], number: int = 7, ctx: Context = INJECTED) -> None:
    raise AssertionError(f"attempt {ctx.attempt} with {order}, {parcels}, {number}")


@app.task(executor="process", retry=Retry(max_retries=3, initial_delay=0.01))
def never_in_a_process(order: Order) -> None:
    raise AssertionError(str(order))


@app.task()
def returns_something_else() -> Order:
    return {"id": "seven", "items": []}  # type: ignore[return-value]
