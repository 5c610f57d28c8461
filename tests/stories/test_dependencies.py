"""Dependency injection by annotation: what a task needs is opened for its run, and closed before its outcome counts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

import pytest

from stoker import INJECTED, Context, Depends, Invalid, Stoker, TaskFailed
from tests.stories.working import AT_ONCE, working


class Session:
    """A database session as tasks know it: it writes down what happens to it."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary
        self.thread = threading.current_thread().name


diary: list[str] = []


@pytest.fixture(autouse=True)
def _empty_diary() -> None:
    diary.clear()


async def get_session() -> AsyncIterator[Session]:
    diary.append("open")
    try:
        yield Session(diary)
    except Exception as error:
        diary.append(f"roll back: {error}")
        raise
    else:
        diary.append("commit")
    finally:
        diary.append("close")


Db = Annotated[Session, Depends(get_session)]
OwnDb = Annotated[Session, Depends(get_session, use_cache=False)]


async def test_a_dependency_is_opened_for_the_run_and_closed_after_it(app: Stoker) -> None:
    @app.task()
    async def ship(order: int, db: Db) -> str:
        db.diary.append(f"ship {order}")
        return type(db).__name__

    async with working(app):
        assert await (await ship.enqueue(7)).result(timeout=5) == "Session"
    assert diary == ["open", "ship 7", "commit", "close"]


async def test_its_end_sees_the_failure(app: Stoker) -> None:
    @app.task()
    async def ship(db: Db) -> None:
        raise ValueError("no stock")

    handle = await ship.options(retry=0).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="ValueError: no stock"):
            await handle.result(timeout=5)
    assert diary == ["open", "roll back: no stock", "close"]


async def test_an_end_that_fails_makes_the_task_fail(app: Stoker) -> None:
    """It is closed before the outcome is recorded: what was not committed has not succeeded."""

    async def get_fragile() -> AsyncIterator[str]:
        yield "value"
        raise ConnectionError("the commit was lost")

    @app.task()
    async def ship(db: Annotated[str, Depends(get_fragile)]) -> str:
        return "shipped"

    handle = await ship.options(retry=0).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="ConnectionError: the commit was lost"):
            await handle.result(timeout=5)


async def test_no_dependency_can_make_a_failure_unseen(app: Stoker) -> None:
    async def get_forgiving(db: Db) -> AsyncIterator[str]:
        try:
            yield "value"
        except ValueError:
            diary.append("never mind")

    @app.task()
    async def ship(value: Annotated[str, Depends(get_forgiving)]) -> None:
        raise ValueError("no stock")

    handle = await ship.options(retry=0).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="no stock"):
            await handle.result(timeout=5)
    assert diary == ["open", "never mind", "roll back: no stock", "close"]


async def test_a_run_that_takes_too_long_closes_what_it_opened(app: Stoker) -> None:
    async def get_session() -> AsyncIterator[str]:
        try:
            yield "value"
        except asyncio.CancelledError:
            diary.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            diary.append("closed")

    @app.task(timeout=0.1)
    async def slow(db: Annotated[str, Depends(get_session)]) -> None:
        await asyncio.sleep(60)

    handle = await slow.options(retry=0).enqueue()
    async with working(app):
        with pytest.raises(TaskFailed, match="TaskTimeout"):
            await handle.result(timeout=5)
    assert diary == ["cancelled", "closed"]


async def test_dependencies_have_dependencies_and_each_is_opened_once(app: Stoker) -> None:
    async def get_repository(db: Db, ctx: Context) -> str:
        return f"repository of {ctx.task}"

    async def get_mailer(db: Db) -> str:
        return "mailer"

    @app.task()
    async def ship(
        repository: Annotated[str, Depends(get_repository)], mailer: Annotated[str, Depends(get_mailer)], db: Db
    ) -> list[str]:
        return [repository, mailer]

    async with working(app):
        assert await (await ship.enqueue()).result(timeout=5) == ["repository of ship", "mailer"]
    assert diary == ["open", "commit", "close"]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_the_last_one_opened_is_the_first_one_closed(app: Stoker, kind: str) -> None:
    def get_connection() -> Iterator[str]:
        diary.append("open connection")
        yield "connection"
        diary.append("close connection")

    def get_transaction(connection: Annotated[str, Depends(get_connection)]) -> Iterator[str]:
        diary.append("begin")
        yield "transaction"
        diary.append("commit")

    @app.task()
    async def ship(transaction: Annotated[str, Depends(get_transaction)]) -> None: ...

    @app.task(name="ship_in_a_thread")
    def ship_in_a_thread(transaction: Annotated[str, Depends(get_transaction)]) -> None: ...

    async with working(app):
        await (await (ship if kind == "async" else ship_in_a_thread).enqueue()).result(timeout=5)
    assert diary == ["open connection", "begin", "commit", "close connection"]


async def test_one_that_is_not_to_be_shared_is_opened_for_each(app: Stoker) -> None:
    @app.task()
    async def ship(a: OwnDb, b: OwnDb) -> bool:
        return a is b

    async with working(app):
        assert await (await ship.enqueue()).result(timeout=5) is False
    assert diary == ["open", "open", "commit", "close", "commit", "close"]


async def test_as_a_default_it_needs_no_argument_for_the_type_checker_either(app: Stoker) -> None:
    @app.task()
    async def ship(order: int, db: Session = Depends(get_session)) -> int:
        db.diary.append("ship")
        return order

    async with working(app):
        assert await (await ship.enqueue(7)).result(timeout=5) == 7
    assert diary == ["open", "ship", "commit", "close"]


async def test_plain_dependencies_of_a_plain_task_live_in_its_thread(app: Stoker) -> None:
    """A sqlite3 connection may only be used, and closed, where it was opened."""

    def get_connection() -> Iterator[str]:
        here = threading.current_thread().name
        diary.append(here)
        yield here
        diary.append(threading.current_thread().name)

    async def get_token() -> str:
        return threading.current_thread().name

    @app.task()
    def store(connection: Annotated[str, Depends(get_connection)], token: Annotated[str, Depends(get_token)]) -> list[str]:
        return [connection, token, threading.current_thread().name]

    async with working(app):
        opened, token, ran = await (await store.enqueue()).result(timeout=5)
    assert diary == [ran, ran]
    assert opened == ran
    assert ran.startswith("stoker-task")
    assert token == threading.current_thread().name


async def test_what_the_loop_needs_is_opened_on_the_loop(app: Stoker) -> None:
    def get_settings() -> str:
        return threading.current_thread().name

    async def get_client(settings: Annotated[str, Depends(get_settings)]) -> str:
        return settings

    @app.task()
    def store(client: Annotated[str, Depends(get_client)]) -> str:
        return client

    async with working(app):
        assert await (await store.enqueue()).result(timeout=5) == threading.current_thread().name


async def test_a_class_is_a_dependency_of_its_own(app: Stoker) -> None:
    class Pricing:
        def __init__(self, db: Db) -> None:
            self.db = db

    @app.task()
    async def ship(pricing: Annotated[Pricing, Depends()]) -> str:
        return type(pricing.db).__name__

    async with working(app):
        assert await (await ship.enqueue()).result(timeout=5) == "Session"


async def test_dependencies_of_a_fastapi_application_serve_its_tasks_as_they_are(app: Stoker) -> None:
    from fastapi import Depends as FastApiDepends

    @app.task()
    async def ship(db: Annotated[Session, FastApiDepends(get_session)]) -> str:
        return type(db).__name__

    @app.task()
    async def bill(order: int, db: Session = FastApiDepends(get_session)) -> str:
        return f"{order} {type(db).__name__}"

    async with working(app):
        assert await (await ship.enqueue()).result(timeout=5) == "Session"
        assert await (await bill.enqueue(7)).result(timeout=5) == "7 Session"
    with pytest.raises(TypeError, match="a plain call injects nothing"):
        await bill(7)


async def test_an_override_replaces_a_dependency(app: Stoker) -> None:
    @app.task()
    async def ship(db: Db) -> str:
        return str(db)

    app.dependency_overrides[get_session] = lambda: "a fake"
    async with working(app):
        assert await (await ship.enqueue()).result(timeout=5) == "a fake"
    assert diary == []


async def test_each_attempt_opens_its_own(app: Stoker) -> None:
    @app.task(retry=AT_ONCE)
    async def flaky(db: Db, ctx: Context) -> int:
        if ctx.attempt == 1:
            raise ConnectionError("not yet")
        return ctx.attempt

    async with working(app):
        assert await (await flaky.enqueue()).result(timeout=5) == 2
    assert diary == ["open", "roll back: not yet", "close", "open", "commit", "close"]


async def test_a_plain_call_injects_nothing(app: Stoker) -> None:
    @app.task()
    async def ship(order: int, db: Session = Depends(get_session)) -> int:
        return order

    assert await ship(7, db=Session(diary)) == 7
    with pytest.raises(TypeError, match=r"ship: a plain call injects nothing, give db yourself"):
        ship(7)


def wants_an_argument(order: int) -> int:
    return order


def wants_itself(value: "Annotated[int, Depends(wants_itself)]") -> int:
    return value


@pytest.mark.parametrize(
    ("dependency", "words"),
    [
        pytest.param(wants_an_argument, "wants order: int, which nobody gives", id="one that wants an argument"),
        pytest.param(wants_itself, "wants_itself -> wants_itself goes round", id="one that wants itself"),
    ],
)
def test_a_worker_refuses_to_start_with_a_dependency_that_cannot_be(dependency: object, words: str) -> None:
    app = Stoker("shop")

    @app.task()
    async def ship(db: Annotated[int, Depends(dependency)]) -> None: ...  # type: ignore[arg-type]

    with pytest.raises(Invalid, match=words):
        ship._origin.declaration.check()


async def test_a_dependency_that_yields_twice_is_a_failure(app: Stoker) -> None:
    async def twice() -> AsyncIterator[int]:
        yield 1
        yield 2

    def twice_plain() -> Iterator[int]:
        yield 1
        yield 2

    @app.task(name="async")
    async def on_the_loop(value: Annotated[int, Depends(twice)]) -> None: ...

    @app.task(name="plain")
    def in_a_thread(value: Annotated[int, Depends(twice_plain)]) -> None: ...

    async with working(app):
        for task in (on_the_loop, in_a_thread):
            handle = await task.options(retry=0).enqueue()
            with pytest.raises(TaskFailed, match="yields more than once"):
                await handle.result(timeout=5)


async def test_callers_leave_out_what_is_marked_as_injected(app: Stoker) -> None:
    """The mark is for type checkers, which ask nobody for what has a default; it may stand anywhere."""

    def get_name(ctx: Context = INJECTED) -> str:
        return f"name of {ctx.task}"

    @app.task()
    async def ship(
        order: int, ctx: Context = INJECTED, note: str = "-", db: Db = INJECTED, name: Annotated[str, Depends(get_name)] = INJECTED
    ) -> list[str]:
        return [str(order), str(ctx.attempt), note, type(db).__name__, name]

    @app.task()
    def ship_in_a_thread(order: int, *, ctx: Context = INJECTED, note: str) -> list[str]:
        return [str(order), str(ctx.attempt), note]

    async with working(app):
        assert await (await ship.enqueue(7, note="x")).result(timeout=5) == ["7", "1", "x", "Session", "name of ship"]
        assert await (await ship_in_a_thread.enqueue(7, note="x")).result(timeout=5) == ["7", "1", "x"]


async def test_the_context_may_stand_anywhere_and_may_be_optional(app: Stoker) -> None:
    @app.task()
    async def first(ctx: Context, order: int, note: str = "-") -> str:
        return f"{order} {note} {ctx.task}"

    @app.task()
    async def last(order: int, note: str, ctx: Context) -> str:
        return f"{order} {note} {ctx.task}"

    @app.task()
    async def optional(order: int, note: str, ctx: Context | None = None) -> str:
        return f"{order} {note} {ctx.task if ctx else None}"

    async with working(app):
        assert await (await first.enqueue(7, "x")).result(timeout=5) == "7 x first"
        assert await (await last.enqueue(7, "x")).result(timeout=5) == "7 x last"  # type: ignore[call-arg]
        assert await (await optional.enqueue(7, "x")).result(timeout=5) == "7 x optional"
    assert await optional(7, "x") == "7 x None"


async def test_a_plain_call_leaves_out_no_mark(app: Stoker) -> None:
    @app.task()
    async def ship(order: int, ctx: Context = INJECTED, db: Db = INJECTED) -> int:
        return order

    with pytest.raises(TypeError, match=r"ship: a plain call injects nothing, give ctx, db yourself"):
        ship(7)


async def test_a_mark_that_does_not_say_what_is_refused(app: Stoker) -> None:
    @app.task()
    async def ship(order: int, db: Session = INJECTED) -> None: ...

    with pytest.raises(
        Invalid, match=r"task ship: db: .*Session = INJECTED: nothing says what is injected. Annotate it as Context"
    ):
        ship._origin.declaration.check()
    with pytest.raises(Invalid, match="nothing says what is injected"):
        await ship.enqueue(7)
