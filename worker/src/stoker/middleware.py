"""Middleware: what an application wraps around every run of a task, and around every enqueue.

An onion of one shape, `async def layer(subject, call_next)`: the first that was added is the outermost. What it raises,
returns or passes on counts in place of what lies inside it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from stoker.client import TaskCall
from stoker.context import Context
from stoker.errors import Invalid
from stoker.queue.broker import Receipt

S = TypeVar("S")
R = TypeVar("R")

RunNext = Callable[[Context], Awaitable[Any]]
RunLayer = Callable[[Context, RunNext], Awaitable[Any]]
"""Around a run: the task's dependencies and its function lie inside, its time limit and its outcome outside."""

EnqueueNext = Callable[[TaskCall], Awaitable[Receipt]]
EnqueueLayer = Callable[[TaskCall, EnqueueNext], Awaitable[Receipt]]
"""Around an enqueue: may pass on another call (`msgspec.structs.replace`), refuse it by raising, or look at its receipt."""

Send = Callable[[Sequence[TaskCall]], Awaitable[list[Receipt]]]


def onion(layers: Sequence[Callable[[S, Callable[[S], Awaitable[R]]], Awaitable[R]]], core: Callable[[S], Awaitable[R]]) -> Any:
    """The core within all layers, as one callable of the core's shape."""
    for layer in reversed(layers):
        core = _around(layer, core)
    return core


async def send_through(layers: Sequence[EnqueueLayer], calls: Sequence[TaskCall], send: Send) -> list[Receipt]:
    """Every call through an onion of its own, and what comes out of them in one sending.

    The first error, of a layer or of the sending, is raised. One that a layer raises before it calls on keeps all calls back.
    """
    together = _Together(len(calls), send)
    ways = [asyncio.ensure_future(_way(layers, call, at, together)) for at, call in enumerate(calls)]
    try:
        return list(await asyncio.gather(*ways))
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


def _around(layer: Callable[[S, Callable[[S], Awaitable[R]]], Awaitable[R]], inner: Callable[[S], Awaitable[R]]) -> Any:
    return lambda subject: layer(subject, inner)


async def _way(layers: Sequence[EnqueueLayer], call: TaskCall, at: int, together: "_Together") -> Receipt:
    async def core(outgoing: TaskCall) -> Receipt:
        if outgoing.queue != call.queue:
            raise Invalid(f"middleware may not send {call.task} to queue {outgoing.queue!r}: its handle waits at {call.queue!r}")
        return await together.send(at, outgoing)

    receipt: Receipt = await onion(layers, core)(call)
    await together.leave(at)
    return receipt


class _Together:
    """Where calls meet that set out together: the last one to arrive sends them all, in their order.

    A call that a layer answers by itself is not waited for; one that is sent a second time goes alone.
    """

    def __init__(self, expected: int, send: Send) -> None:
        self._send = send
        self._expected = set(range(expected))
        self._arrived: dict[int, TaskCall] = {}
        self._receipts: asyncio.Future[dict[int, Receipt]] = asyncio.get_running_loop().create_future()

    async def send(self, at: int, call: TaskCall) -> Receipt:
        if at not in self._expected:
            [receipt] = await self._send([call])
            return receipt
        self._arrived[at] = call
        await self.leave(at)
        return (await asyncio.shield(self._receipts))[at]

    async def leave(self, at: int) -> None:
        if at in self._expected:
            self._expected.discard(at)
            if not self._expected and self._arrived:
                await self._send_all()

    async def _send_all(self) -> None:
        order = sorted(self._arrived)
        try:
            receipts = await self._send([self._arrived[at] for at in order])
        except Exception as error:
            self._receipts.set_exception(error)
        else:
            self._receipts.set_result(dict(zip(order, receipts, strict=True)))
