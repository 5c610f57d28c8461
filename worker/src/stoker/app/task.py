"""A task: a plain function that can also be enqueued. Calling it stays a plain call."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack, cast

from msgspec.structs import replace

from stoker.app.prepared import Origin, Prepared, R_co, T_contra
from stoker.app.sync import from_sync
from stoker.queue.reads.inspector import Cancellation
from stoker.queue.records import TaskStatus, receipts
from stoker.rules.message import check_id, check_queue
from stoker.rules.why import Explanation
from stoker.task.options import Options, check_concurrency, check_known, check_unique, fields_of

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
Whole = ParamSpec("Whole")
C = TypeVar("C")


class Handle(Generic[R]):
    """An enqueued task. `duplicate`: the one that was there before, under the same id or holding the same uniqueness claim."""

    def __init__(self, origin: Origin, queue: str, task_id: str, *, duplicate: bool) -> None:
        self.id = task_id
        self.queue = queue
        self.duplicate = duplicate
        self._origin = origin

    def __repr__(self) -> str:
        return f"<Handle {self._origin.declaration.name} {self.id} in {self.queue}>"

    async def status(self) -> TaskStatus:
        """Its state, attempts, failure, result. Raises NotFound once it is past its retention."""
        return await self._origin.application.client.status(self.queue, self.id)

    async def explain(self) -> Explanation:
        """Why it is in its state: what is ahead of it, what it waits for, what failed. Raises NotFound past its retention."""
        return await self._origin.application.client.inspector.explain(self.queue, self.id)

    async def cancel(self) -> Cancellation:
        """Cancel it: at once unless it runs; a running one with its worker's next heartbeat."""
        [answer] = await self._origin.application.client.inspector.cancel(self.queue, [self.id])
        return answer

    async def result(self, timeout: float | None = None) -> R:
        """Wait for its result. Raises TaskFailed when it is dead or cancelled, ResultPending after `timeout` seconds.

        Raises Invalid for a task that keeps none (`ignore_result`).
        """
        if self._origin.declaration.policy.ignore_result:
            self._origin.declaration.decode_result(b"null")  # raises at once: there is nothing to wait for
        status = await self._origin.application.client.wait(self.queue, self.id, timeout)
        value: R = self._origin.declaration.decode_result(bytes(status.result.value) if status.result else b"null")
        return value

    def status_sync(self) -> TaskStatus:
        """`status`, for code without an event loop."""
        return from_sync("await status()", self.status, self._origin.application.close)

    def cancel_sync(self) -> Cancellation:
        """`cancel`, for code without an event loop."""
        return from_sync("await cancel()", self.cancel, self._origin.application.close)

    def result_sync(self, timeout: float | None = None) -> R:
        """`result`, for code without an event loop."""
        return from_sync("await result(...)", lambda: self.result(timeout), self._origin.application.close)


class Piped(Protocol[T_contra, Q, R_co]):
    """What has a first parameter that a result can be piped into. mypy finds it in a method, and not in a class's parameters."""

    def prepare(self, into: T_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> Prepared[object, R_co]: ...


class Task(Generic[P, R]):
    """A registered function. `enqueue` takes its parameters; call `options(...)` first to override its declaration for one call."""

    def __init__(self, origin: Origin) -> None:
        self.name = origin.declaration.name
        self._origin = origin

    def __repr__(self) -> str:
        return f"<Task {self.name} on {self._origin.declaration.policy.queue}>"

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it to its queue.

        Raises InvalidArguments for arguments of other types than declared, Invalid for those that JSON cannot carry and for values
        out of range, RedisUnavailable where it is unknown whether it was enqueued.
        """
        call = self._bind({}, args, kwargs)
        [receipt] = receipts(await self._origin.application.enqueue((call,)))
        return Handle(self._origin, call.queue, receipt.id, duplicate=receipt.duplicate)

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> Prepared[object, R]:
        """The call that would be enqueued, for `Stoker.enqueue_many`, chains, groups and `Context.enqueue`."""
        return self._bind({}, args, kwargs)

    def piped(self: "Piped[T, Q, R]", *args: Q.args, **kwargs: Q.kwargs) -> Prepared[T, R]:
        """`prepare` for a link of a chain whose first free parameter takes the result of the link before."""
        return cast(Task[..., R], self)._pipe({}, args, kwargs)

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """`enqueue` for code without an event loop, from any thread. Raises Invalid on a thread that runs one."""
        return from_sync("await enqueue(...)", lambda: self.enqueue(*args, **kwargs), self._origin.application.close)

    def options(self, **options: Unpack[Options]) -> "BoundTask[P, R]":
        """The same task with other options, for one call. Raises TypeError for an unknown option."""
        check_known(options)
        return BoundTask(self, options)

    def handle(self, task_id: str, queue: str | None = None) -> Handle[R]:
        """The handle of a task enqueued elsewhere, in another request or process; `queue` where it is not the declared one.

        Sends nothing; `status` raises NotFound where no such task exists.
        """
        queue = check_queue(self._origin.declaration.policy.queue if queue is None else queue)
        return Handle(self._origin, queue, check_id(task_id), duplicate=False)

    def _bind(self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any], into: str | None = None) -> Prepared[Any, R]:
        """The call with these arguments, but for `into`. Raises Invalid when they do not fit the signature or its types."""
        declared = self._origin.declaration
        signature, policy = declared.signature, declared.policy
        if declared.travelling:
            options = cast(Options, {**declared.travelling, **options})
        bound = signature.bind(args, kwargs) if into is None else signature.bind_without(into, args, kwargs)
        payload = signature.encode(bound)
        if options.get("check_arguments", self._origin.application.check_arguments):
            signature.check_arguments(bound, payload, into)
        unique, concurrency = policy.unique, policy.concurrency
        if options:
            unique = check_unique(options.get("unique", unique))
            concurrency = check_concurrency(options.get("concurrency", concurrency))
        claim = unique.claim(self.name, payload, args, kwargs) if unique else None
        limit = concurrency.of(signature.with_defaults(bound), args, kwargs) if concurrency else None
        call: Prepared[Any, R] = Prepared(
            origin=self._origin,
            task=self.name,
            queue=policy.queue,
            priority=policy.priority,
            version=policy.version,
            payload=payload,
            into=into,
            claim=claim,
            limit=limit,
        )
        return replace(call, **fields_of(options)) if options else call

    def _pipe(self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prepared[Any, R]:
        return self._bind(options, args, kwargs, self._origin.declaration.signature.receiver(kwargs))


class TaskFunction(Task[P, R], Generic[Whole, C, P, R]):
    """What `@app.task(...)` makes of a function: a task, and called it is still that function.

    Types: `Whole` the function's parameters, C what calling it returns; P the parameters of `enqueue`, R the task's result.
    """

    def __init__(self, origin: Origin, function: Callable[Whole, C]) -> None:
        super().__init__(origin)
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *args: Whole.args, **kwargs: Whole.kwargs) -> C:
        """Call the function here and now, without a queue. Nothing is injected.

        Raises TypeError where a parameter whose default is `Depends(...)` or INJECTED is left out.
        """
        self._origin.declaration.signature.check_plain_call(args, kwargs)
        return self._function(*args, **kwargs)


class BoundTask(Generic[P, R]):
    """A task with the options of one call."""

    def __init__(self, task: Task[P, R], options: Options) -> None:
        self._task = task
        self._options = options

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it. Raises as `Task.enqueue`, and Conflict when another task has the id or the key."""
        call = self._task._bind(self._options, args, kwargs)
        [receipt] = receipts(await call.origin.application.enqueue((call,)))
        return Handle(call.origin, call.queue, receipt.id, duplicate=receipt.duplicate)

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """`enqueue` for code without an event loop; see `Task.enqueue_sync`."""
        return from_sync("await enqueue(...)", lambda: self.enqueue(*args, **kwargs), self._task._origin.application.close)

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> Prepared[object, R]:
        """See `Task.prepare`."""
        return self._task._bind(self._options, args, kwargs)

    def piped(self: "Piped[T, Q, R]", *args: Q.args, **kwargs: Q.kwargs) -> Prepared[T, R]:
        """See `Task.piped`."""
        bound = cast(BoundTask[..., R], self)
        return bound._task._pipe(bound._options, args, kwargs)
