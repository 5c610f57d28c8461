"""Middleware: what an application wraps around every run of a task, and around every enqueue.

All layers have one shape, `async def layer(subject, call_next)`. The first one added is the outermost. What a layer raises,
returns or passes on replaces what the layers inside it raised, returned or were given.
"""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

from msgspec.structs import replace

from stoker.errors import Invalid
from stoker.queue.records import Answer, Receipt, receipts
from stoker.rules.call import TaskCall
from stoker.rules.durability import Durability
from stoker.rules.workflow import Steps, TaskStep, task_steps
from stoker.task.context import Context

S = TypeVar("S")
R = TypeVar("R")

RunNext = Callable[[Context], Awaitable[Any]]
"""A run's `call_next`: returns what the task returned."""
RunLayer = Callable[[Context, RunNext], Awaitable[Any]]
"""Around a run: inside are the task's dependencies and its function, outside its time limit and its outcome."""

EnqueueNext = Callable[[TaskCall], Awaitable[Receipt]]
"""An enqueue's `call_next`. Raises as `Task.enqueue`: Conflict, RedisUnavailable and the like."""
EnqueueLayer = Callable[[TaskCall, EnqueueNext], Awaitable[Receipt]]
"""Around an enqueue: may pass on another call (`msgspec.structs.replace`), refuse it by raising, or look at its receipt."""

Enqueue = Callable[[Sequence[TaskCall]], Awaitable[Sequence[Answer]]]
"""What the innermost layers call on, once for all calls."""

NOT_ALL = "middleware answers a task of a workflow by itself, or sends it twice: pass each one on, once, or raise to refuse all"


def onion(layers: Sequence[Callable[[S, Callable[[S], Awaitable[R]]], Awaitable[R]]], core: Callable[[S], Awaitable[R]]) -> Any:
    """The core within all layers, as one callable of the core's shape."""
    for layer in reversed(layers):
        core = _around(layer, core)
    return core


async def enqueue_through(
    layers: Sequence[EnqueueLayer], calls: Sequence[TaskCall], enqueue: Enqueue, variables: Sequence[contextvars.Context] = ()
) -> list[Receipt]:
    """Each call through all layers, and what comes out of them in one `enqueue`. `variables`: the context of each call's layers.

    Raises the first error of a layer or of `enqueue`, with its first Conflict. Where a layer raises before it calls on, no call
    is sent.
    """
    together = _Together(len(calls), enqueue)
    start = asyncio.get_running_loop().create_task
    pairs = zip_longest(calls, variables)
    ways = [start(_way(layers, call, at, together), context=context) for at, (call, context) in enumerate(pairs)]
    try:
        return list(await asyncio.gather(*ways))
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def chains_through(
    layers: Sequence[EnqueueLayer], chains: Sequence[Steps], variables: Sequence[contextvars.Context]
) -> list[Steps]:
    """What a run has sent, each of its tasks through all layers, in the context in which its chain was sent.

    Raises what a layer raises, and Invalid for a task that a layer does not pass on or gives another id.
    """
    steps = [(step, context) for chain, context in zip(chains, variables, strict=True) for step in task_steps([chain])]
    changed: list[TaskStep] = []

    async def keep(calls: Sequence[TaskCall]) -> list[Receipt]:
        if len(calls) != len(steps) or changed:
            raise Invalid(NOT_ALL)
        changed.extend(_changed(step, call) for (step, _), call in zip(steps, calls, strict=True))
        return [Receipt(step.message.id, None) for step, _ in steps]

    await enqueue_through(layers, [_call_of(step) for step, _ in steps], keep, [context.copy() for _, context in steps])
    if len(changed) != len(steps):
        raise Invalid(NOT_ALL)
    following = iter(changed)
    return [_with_tasks(chain, following) for chain in chains]


def _call_of(step: TaskStep) -> TaskCall:
    message = step.message
    return TaskCall(
        task=message.task,
        queue=message.queue,
        payload=message.payload,
        priority=message.priority,
        delay=step.delay,
        run_at=step.run_at,
        id=message.id,
        max_retries=message.max_retries,
        retry=message.retry,
        timeout=message.timeout,
        soft_timeout=message.soft_timeout,
        expires_at=(message.expires or 0) / 1000,
        headers=message.headers,
        claim=step.claim,
        limit=step.limit,
        into=step.into,
        version=message.version,
        in_workflow=True,
    )


def _changed(step: TaskStep, call: TaskCall) -> TaskStep:
    call.check()
    if call.own_id != step.message.id or call.into != step.into:
        raise Invalid(f"middleware may not change the id of task {call.task}: its sender knows it as {step.message.id}")
    if call.durability is not Durability.MEMORY:
        raise Invalid(f"middleware asks for {call.durability} durability of task {call.task}: what a running task sends has none")
    return TaskStep(call.message(step.message.id, 0, {}), call.delay, call.run_at, call.claim, call.limit, step.into)


def _with_tasks(chain: Steps, tasks: Iterator[TaskStep]) -> Steps:
    """The same chain of other tasks, which come in the order of the chain."""
    return tuple(
        next(tasks)
        if isinstance(step, TaskStep)
        else replace(step, members=tuple(_with_tasks(each, tasks) for each in step.members))
        for step in chain
    )


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
    """Gathers the calls of one enqueue behind their layers: the last one to arrive sends them all, in their order.

    A call whose layer never calls on is not waited for; one that is sent a second time goes alone.
    """

    def __init__(self, expected: int, enqueue: Enqueue) -> None:
        self._enqueue = enqueue
        self._expected = set(range(expected))
        self._arrived: dict[int, TaskCall] = {}
        self._receipts: asyncio.Future[dict[int, Receipt]] = asyncio.get_running_loop().create_future()

    async def send(self, at: int, call: TaskCall) -> Receipt:
        if at not in self._expected:
            [receipt] = receipts(await self._enqueue([call]))
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
            found = receipts(await self._enqueue([self._arrived[at] for at in order]))
        except Exception as error:
            self._receipts.set_exception(error)
        else:
            self._receipts.set_result(dict(zip(order, found, strict=True)))
