"""Arguments and results arrive as they were declared, whatever runs the task; those that do not fit bury it at once."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from stoker import Dead, Invalid, InvalidArguments, Stoker, TaskFailed, chain, group
from stoker.rules.call import TaskCall
from stoker.rules.message import check_payload
from stoker.rules.states import TaskState
from tests.stories.apps import parcels
from tests.stories.apps.parcels import Address, Item, Order, Parcel, Receipt, Size, Speed
from tests.stories.working import working

START = 20.0
"""Seconds within which a child process is up on a slow machine."""
ORDER = Order(id=7, items=[Item(name="tea", count=2)])


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[Stoker]:
    """The parcels, on an empty server."""
    parcels.app.redis_url = redis_url
    yield parcels.app
    await parcels.app.close()


def at_work() -> Any:
    return working(parcels.app, app="tests.stories.apps.parcels:app")


async def test_what_is_given_arrives_and_what_is_returned_comes_back(app: Stoker) -> None:
    parcel = Parcel(
        id=UUID(int=7),
        weight=1.5,
        size=Size(10, 20),
        to=Address(street="Main", city="Ghent"),
        contents=b"\x00tea\xff",
        speed=Speed.FAST,
        receipts=[Receipt(Decimal("1.10"), date(2030, 1, 2))],
    )
    given = (parcel, datetime(2030, 1, 2, 3, 4, tzinfo=UTC), timedelta(hours=1, microseconds=5), "yes", {"rest": [parcel]})
    handle = await parcels.send.enqueue(parcel, at=given[1], within=given[2], insured="yes", others=given[4])
    async with at_work():
        assert await handle.result(timeout=5) == given


async def test_models_of_pydantic_are_arguments_and_results(app: Stoker) -> None:
    async with at_work():
        packed = await (await parcels.pack.enqueue(ORDER)).result(timeout=5)
        assert packed == Order(id=7, items=[Item(name="tea", count=2), Item(name="a card")])
        counted = await parcels.count.enqueue([ORDER, packed], by_name={"extra": Item(name="ink", count=3)})
        assert await counted.result(timeout=5) == 2 + 3 + 3 + 3


async def test_in_a_child_process_too(app: Stoker) -> None:
    async with at_work():
        handle = await parcels.pack_in_a_process.enqueue(ORDER, more=Item(name="ink"))
        assert await handle.result(timeout=START) == Order(id=8, items=[*ORDER.items, Item(name="ink")])


async def test_a_model_goes_from_link_to_link(app: Stoker) -> None:
    twice = chain(parcels.pack.prepare(ORDER), parcels.pack.piped())
    async with at_work():
        assert (await (await twice.enqueue()).result(timeout=5)).items[1:] == [Item(name="a card")] * 2
        total = await chain(group(twice, parcels.pack.prepare(ORDER)), parcels.count.piped()).enqueue()
        assert await total.result(timeout=5) == 2 + 1 + 1 + 2 + 1


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        pytest.param(b'{"order": {"id": 7, "items": [{"name": "tea", "count": 0}]}, "parcels": []}', "`$.order.items[0].count`"),
        pytest.param(b'{"order": {"id": 7, "items": []}, "parcels": [{"id": "7"}]}', "`$.parcels[0].id`"),
        pytest.param(b'{"order": {"id": 7, "items": []}, "parcels": [], "number": "8"}', "`$.number`"),
        pytest.param(b'{"order": {"id": 7, "items": []}}', "missing required field `parcels`"),
        pytest.param(b'{"order": {"id": 7, "items": []}, "parcels": [], "colour": 1}', "unknown field `colour`"),
        pytest.param(b'{"order": {"id": 7, "items": []}, "parcels": [], "ctx": {}}', "unknown field `ctx`"),
    ],
    ids=["a model's field", "a Struct's field", "a number", "one is missing", "one too many", "what is the worker's to give"],
)
async def test_arguments_that_do_not_fit_bury_the_task_at_once_and_the_error_names_the_field(
    app: Stoker, payload: bytes, place: str
) -> None:
    """It would not fit the next time either: no retry is spent on it."""
    [receipt] = await app.enqueue_many([TaskCall("never_with_wrong_arguments", "default", check_payload(payload))])
    async with at_work():
        with pytest.raises(TaskFailed) as failed:
            await app.client.wait("default", receipt.id, 5)
    assert failed.value.type == "InvalidArguments"
    assert place in failed.value.message
    status = await app.client.status("default", receipt.id)
    assert (status.state, status.attempts) == (TaskState.DEAD, 1)


async def test_a_child_process_buries_it_as_well(app: Stoker) -> None:
    [receipt] = await app.enqueue_many([TaskCall("never_in_a_process", "default", check_payload(b'{"order": {"id": []}}'))])
    async with at_work():
        with pytest.raises(TaskFailed, match=r"InvalidArguments: .* - at `\$\.order\.id`"):
            await app.client.wait("default", receipt.id, START)
    assert (await app.client.status("default", receipt.id)).attempts == 1


async def test_it_runs_once_it_is_mended_and_redriven(app: Stoker) -> None:
    """A dead letter waits for whoever made its task stricter than its callers knew."""

    class Refusing(Order):
        def model_post_init(self, context: Any) -> None:
            raise Dead("a type that fails in its own way")

    [stricter, mended] = [Stoker("shop", redis=app.redis_url) for _ in range(2)]

    async def ship(order: Refusing) -> int:
        return order.id

    async def ship_again(order: Order) -> int:
        return order.id

    stricter.task(name="ship")(ship)
    task = mended.task(name="ship")(ship_again)
    handle = await task.enqueue(ORDER)
    async with working(stricter):
        with pytest.raises(TaskFailed, match=r"InvalidArguments: .*Dead: a type that fails in its own way"):
            await handle.result(timeout=5)
    await mended.client.inspector.redrive("default", [handle.id])
    async with working(mended):
        assert await handle.result(timeout=5) == 7
    await stricter.close()
    await mended.close()


async def test_what_json_cannot_carry_never_leaves_the_caller(app: Stoker) -> None:
    with pytest.raises(Invalid, match="argument order of pack cannot be written as JSON: JSON carries no `object`"):
        await parcels.pack.enqueue(object())  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="argument parcels of never_with_wrong_arguments cannot be written as JSON"):
        parcels.never_with_wrong_arguments.prepare(ORDER, [object()])  # type: ignore[list-item]
    with pytest.raises(InvalidArguments, match=r"`\$\.order\.items\[0\]\.count`"):
        await parcels.pack.enqueue(Order(id=7, items=[Item.model_construct(name="tea", count=0)]))
    assert [stats.totals.enqueued for stats in await app.client.inspector.stats(["default"])] == [0]


async def test_a_result_of_another_type_than_declared_raises_for_the_caller(app: Stoker) -> None:
    handle = await parcels.returns_something_else.enqueue()
    async with at_work():
        with pytest.raises(Invalid, match=r"the result of returns_something_else is not what it declares: .* at `\$\.id`"):
            await handle.result(timeout=5)
    assert (await handle.status()).state is TaskState.SUCCEEDED
