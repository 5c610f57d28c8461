"""Chains and groups: tasks that start when others succeed, without a step between them that could be lost.

What follows a task travels in its envelope, and is enqueued by the script that records its success. How: `rules/workflow.py`.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import msgspec

from stoker.app.application import Application
from stoker.app.middleware import NOT_ALL
from stoker.app.prepared import Prepared, R_co, T_contra
from stoker.app.sync import from_sync
from stoker.app.task import R, T
from stoker.app.workflow_handle import EmptyHandle, WorkflowHandle
from stoker.clock import milliseconds, system
from stoker.errors import Invalid
from stoker.queue.records import Receipt, receipts
from stoker.rules.call import TaskCall
from stoker.rules.durability import Durability
from stoker.rules.message import IdFactory
from stoker.rules.workflow import GroupStep, Steps, TaskStep, check_size, check_start, dump_onward, number, root_of, task_steps
from stoker.task.links import Links, handlers

R1 = TypeVar("R1")
R2 = TypeVar("R2")
R3 = TypeVar("R3")
R4 = TypeVar("R4")
R5 = TypeVar("R5")
_new_id = IdFactory()


class Chain(Generic[T_contra, R_co]):
    """Links that run one after the other; a `piped` one takes the result of the one before."""

    _own_id: str | None = None

    def __init__(self, *links: "Flow[Any, Any]") -> None:
        self.links = links

    def __repr__(self) -> str:
        return f"chain({', '.join(map(_words, self.links))})"

    @property
    def _steps(self) -> Steps:
        """As they travel in envelopes. Raises Invalid for what cannot be a link."""
        return tuple(step for at, link in enumerate(self.links) for step in _linked(link, is_first=at == 0))

    async def enqueue(self: "Chain[object, R]") -> WorkflowHandle[R]:
        """Enqueue its first link; each later one is enqueued when the one before succeeds.

        Raises Invalid for what cannot be sent, Conflict where another task has the first one's id, RedisUnavailable where it is
        unknown whether it was enqueued.
        """
        return await _enqueue(self)

    def enqueue_sync(self: "Chain[object, R]") -> WorkflowHandle[R]:
        """`enqueue` for code without an event loop. Raises Invalid on a thread that runs one."""
        return _empty(self) or from_sync("await enqueue()", self.enqueue, _closing(self))


class Group(Generic[T_contra, R_co]):
    """Chains that run side by side. Its result is the list of theirs, in order."""

    _own_id: str | None = None

    def __init__(self, *members: "Flow[Any, Any]", on_failure: Links | None = None) -> None:
        self.members = members
        self.on_failure = on_failure

    def __repr__(self) -> str:
        return f"group({', '.join(map(_words, self.members))})"

    @property
    def _steps(self) -> Steps:
        """As they travel in envelopes. Raises Invalid for what cannot be a member."""
        members = tuple(_linked(member, is_first=False) for member in self.members)
        return (GroupStep(members, on_failure=handlers(self.on_failure)),)

    async def enqueue(self: "Group[object, R]") -> WorkflowHandle[R]:
        """Enqueue all members. Without any, nothing is enqueued and the result is an empty list. Raises as `Chain.enqueue`."""
        return await _enqueue(self)

    def enqueue_sync(self: "Group[object, R]") -> WorkflowHandle[R]:
        """`enqueue` for code without an event loop. Raises Invalid on a thread that runs one."""
        return _empty(self) or from_sync("await enqueue()", self.enqueue, _closing(self))


Flow = Prepared[T_contra, R_co] | Chain[T_contra, R_co] | Group[T_contra, R_co]


def group(*members: Flow[T, R], on_failure: Links | None = None) -> Group[T, list[R]]:
    """Run these side by side. In a chain, the next link runs once all have succeeded, with the list of their results.

    Each `piped` member takes the result of the link before the group. `on_failure` handles the first death of any of their tasks:
    a prepared task, whose `piped` parameter takes the DeadTask.
    """
    return Group(*members, on_failure=on_failure)


@overload
def chain(a: Flow[T, R], /) -> Chain[T, R]: ...
@overload
def chain(a: Flow[T, R1], b: Flow[R1, R], /) -> Chain[T, R]: ...
@overload
def chain(a: Flow[T, R1], b: Flow[R1, R2], c: Flow[R2, R], /) -> Chain[T, R]: ...
@overload
def chain(a: Flow[T, R1], b: Flow[R1, R2], c: Flow[R2, R3], d: Flow[R3, R], /) -> Chain[T, R]: ...
@overload
def chain(a: Flow[T, R1], b: Flow[R1, R2], c: Flow[R2, R3], d: Flow[R3, R4], e: Flow[R4, R], /) -> Chain[T, R]: ...
@overload
def chain(a: Flow[T, R1], b: Flow[R1, R2], c: Flow[R2, R3], d: Flow[R3, R4], e: Flow[R4, R5], f: Flow[R5, R], /) -> Chain[T, R]: ...
def chain(*links: Flow[Any, Any]) -> Chain[Any, Any]:
    """Run these one after the other. A link made by `prepare()` has all its arguments; one made by `piped()` takes the result of
    the link before as its first free parameter. For more than six links, nest a chain in the chain.
    """
    return Chain(*links)


async def _enqueue(workflow: Chain[Any, R] | Group[Any, R]) -> WorkflowHandle[R]:
    if empty := _empty(workflow):
        return empty
    check_start(workflow._steps)
    parts = [msgspec.structs.replace(part, in_workflow=True) for part in _prepared(workflow)]
    app = parts[0].origin.application
    handles: list[WorkflowHandle[R]] = []

    async def launch(calls: Sequence[TaskCall]) -> list[Receipt]:
        """Enqueue the calls that come out of the middleware as one workflow."""
        if len(calls) != len(parts) or handles:
            raise Invalid(NOT_ALL)
        handle, receipts = await _launch(app, _with_parts(workflow, map(_part, parts, calls)))
        handles.append(handle)
        return receipts

    await app.enqueue(parts, launch)
    if not handles:
        raise Invalid(NOT_ALL)
    return handles[0]


async def _launch(app: Application, workflow: "Flow[Any, R]") -> tuple[WorkflowHandle[R], list[Receipt]]:
    """Its handle, and a receipt for each of its tasks, in the order of `task_steps`."""
    steps = check_start(workflow._steps)
    tasks = {prepared.task: prepared.origin for prepared in _prepared(workflow)}
    head = next(_prepared(workflow))
    created = milliseconds(system)
    if not isinstance(steps[0], TaskStep):
        root = _new_id()
        numbered = check_size(number(steps, root))
        await app.client.launch(numbered, root)
        handle: WorkflowHandle[R] = WorkflowHandle(app, numbered, tasks)
        return handle, [Receipt(task_id, None) for task_id in handle.ids]

    root = root_of(head.own_id, created) if head.own_id else _new_id()
    rest = dump_onward(check_size(number(steps, root))[1:], None, head.onward)
    [receipt] = receipts(await app.client.enqueue([msgspec.structs.replace(head, onward=rest, created=created)]))
    if receipt.duplicate:
        # The earlier chain continues: the ids of its other tasks were made when its first one was enqueued.
        root = root_of(receipt.id, (await app.client.status(head.queue, receipt.id)).created)
    handle = WorkflowHandle(app, number(steps, root, first=receipt.id), tasks, duplicate=receipt.duplicate)
    return handle, [receipt, *(Receipt(task_id, None, receipt.duplicate) for task_id in handle.ids[1:])]


def _empty(workflow: Chain[Any, R] | Group[Any, R]) -> EmptyHandle[R] | None:
    """The handle of groups without a task; None where there is a task, or not even a group."""
    steps = workflow._steps
    return EmptyHandle(steps) if steps and not any(True for _ in task_steps([steps])) else None


def _part(was: Prepared[Any, Any], call: TaskCall) -> Prepared[Any, Any]:
    """A part of the workflow after the middleware has changed it. Raises Invalid where it may not be changed so."""
    call.check()
    if call.into != was.into:
        raise Invalid(f"middleware may not change what task {was.task} takes from the task before it")
    fields = {field: getattr(call, field) for field in TaskCall.__struct_fields__}
    return Prepared(**fields, origin=was.origin)


def _with_parts(flow: "Flow[Any, R]", parts: Iterator[Prepared[Any, Any]]) -> "Flow[Any, R]":
    """The same workflow of other tasks, which come in its order."""
    match flow:
        case Chain(links=links):
            return Chain(*[_with_parts(link, parts) for link in links])
        case Group(members=members, on_failure=on_failure):
            return Group(*[_with_parts(member, parts) for member in members], on_failure=on_failure)
        case _:
            return next(parts)


def _linked(flow: Flow[Any, Any], *, is_first: bool) -> Steps:
    """Its steps. Raises Invalid for a task that others cannot depend on."""
    if isinstance(flow, Prepared):
        flow.check()
        if flow.claim is not None:
            raise Invalid(f"task {flow.task} is unique: a workflow cannot depend on another one's task. Use options(unique=None)")
        if flow.own_id is not None and not is_first:
            raise Invalid(f"task {flow.task} has its own id or key: only the first link of a chain may")
        if flow.durability is not Durability.MEMORY and not is_first:
            raise Invalid(f"task {flow.task} asks for {flow.durability} durability: only the first link of a chain can")
    return flow._steps


def _closing(workflow: Flow[Any, Any]) -> Callable[[], Awaitable[None]]:
    """Closes the connections of its application. Raises Invalid where there is nothing to enqueue."""
    check_start(workflow._steps)
    return next(_prepared(workflow)).origin.application.close


def _prepared(flow: Flow[Any, Any]) -> Iterator[Prepared[Any, Any]]:
    if isinstance(flow, Prepared):
        yield flow
    else:
        for part in flow.links if isinstance(flow, Chain) else flow.members:
            yield from _prepared(part)


def _words(flow: Flow[Any, Any]) -> str:
    return flow.task if isinstance(flow, Prepared) else repr(flow)
