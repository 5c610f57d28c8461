"""What cannot be a task is refused where it is declared, with what to write instead."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from stoker import Invalid, Stoker
from stoker.rules.call import TaskCall


def generator() -> Iterator[int]:
    yield 1


async def stream() -> AsyncIterator[int]:
    yield 1


async def work() -> int:
    return 1


@functools.wraps(work)
def wrapper(*args: Any) -> Any:
    return work(*args)


class Shop:
    def ship(self, order: int) -> None: ...

    @staticmethod
    def close() -> None: ...

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (generator, "a generator function yields"),
        (stream, "a generator function yields"),
        (wrapper, "make the wrapper async def"),
        (functools.partial(print, "x"), "a partial cannot be a task"),
        (Shop, "a class cannot be a task"),
        (Shop(), "a Shop cannot be a task"),
        (Shop.__dict__["close"], "a staticmethod cannot be a task"),
        (Shop.ship, "a method of Shop has no object on a worker"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_a_task(function: Callable[..., Any], words: str) -> None:
    app = Stoker("shop")
    with pytest.raises(Invalid, match=words):
        app.task()(function)
    assert not app.tasks


def test_a_decorator_without_parentheses_says_so() -> None:
    app: Any = Stoker("shop")
    with pytest.raises(Invalid, match=r"write @app.task\(\) with parentheses"):
        app.task(work)


def test_a_wrapper_that_runs_the_coroutine_itself_may_say_so() -> None:
    @functools.wraps(work)
    def runs() -> int:
        return asyncio.run(work())

    del runs.__dict__["__wrapped__"]
    assert Stoker("shop").task()(runs)() == 1


async def test_of_many_nothing_is_sent_when_the_last_one_is_bad(app: Stoker) -> None:
    @app.task()
    async def note(n: int) -> None: ...

    good = [note.prepare(n) for n in range(450)]
    odd: Any = "not a call"
    for bad in (note.options(priority=101).prepare(1), note.options(timeout=-1, queue="other").prepare(1), odd):
        with pytest.raises(Invalid):
            await app.enqueue_many([*good, bad])
        [stats] = await app.client.inspector.stats(["default"])
        assert stats.ready == 0
    with pytest.raises(Invalid):
        await app.client.enqueue([*good, TaskCall("note", "default", limit=3)])  # type: ignore[arg-type]
    [stats] = await app.client.inspector.stats(["default"])
    assert stats.ready == 0
