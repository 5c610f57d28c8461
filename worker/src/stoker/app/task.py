"""A task: a plain function that can also be enqueued. Calling it stays a plain call."""

import inspect
from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypeVar, Unpack, cast

from msgspec.structs import replace

from stoker.app.prepared import Application, Prepared, R_co, T_contra
from stoker.app.sync import from_sync
from stoker.client.call import TaskCall
from stoker.errors import Invalid
from stoker.queue.broker import taken
from stoker.queue.reads.inspector import Cancellation
from stoker.queue.records import TaskStatus
from stoker.rules.message import check_id, check_queue
from stoker.rules.why import Explanation
from stoker.task.dependencies import Plan, fits, name_of, plan
from stoker.task.options import Options, Policy, check_known, fields_of
from stoker.task.signature import Signature

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
Whole = ParamSpec("Whole")
C = TypeVar("C")


class Handle(Generic[R]):
    """A task that was enqueued, or (`duplicate`) the one that stands for it: the same one, or the only one of its kind."""

    def __init__(self, task: "Task[..., R]", queue: str, task_id: str, *, duplicate: bool) -> None:
        self.id = task_id
        self.queue = queue
        self.duplicate = duplicate
        self._task = task

    def __repr__(self) -> str:
        return f"<Handle {self._task.name} {self.id} in {self.queue}>"

    async def status(self) -> TaskStatus:
        """Where it is now. Raises NotFound once it is forgotten."""
        return await self._task.app.client.status(self.queue, self.id)

    async def explain(self) -> Explanation:
        """Why it is where it is: what stands before it, holds it back, went wrong. Raises NotFound once it is forgotten."""
        return await self._task.app.client.inspector.explain(self.queue, self.id)

    async def cancel(self) -> Cancellation:
        """Cancel it: at once while it waits, with its worker's next heartbeat while it runs."""
        [answer] = await self._task.app.client.inspector.cancel(self.queue, [self.id])
        return answer

    async def result(self, timeout: float | None = None) -> R:
        """Wait for its result. Raises TaskFailed when it died, ResultPending after `timeout` seconds."""
        status = await self._task.app.client.wait(self.queue, self.id, timeout)
        return self._task.decode_result(bytes(status.result.value) if status.result else b"null")

    def status_sync(self) -> TaskStatus:
        """`status`, for code without an event loop."""
        return from_sync("await status()", self.status, self._task.app.close)

    def cancel_sync(self) -> Cancellation:
        """`cancel`, for code without an event loop."""
        return from_sync("await cancel()", self.cancel, self._task.app.close)

    def result_sync(self, timeout: float | None = None) -> R:
        """`result`, for code without an event loop."""
        return from_sync("await result(...)", lambda: self.result(timeout), self._task.app.close)


class Piped(Protocol[T_contra, Q, R_co]):
    """What has a first parameter that a result can be piped into. mypy finds it in a method, and not in a class's parameters."""

    def prepare(self, into: T_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> Prepared[object, R_co]: ...


class Task(Generic[P, R]):
    """A registered function. `enqueue` takes its own parameters; `options(...)` first, where one call differs."""

    def __init__(self, app: Application, name: str, function: Callable[..., Any], policy: Policy) -> None:
        self.app = app
        self.name = name
        self.function = function
        self.policy = policy
        self.signature = Signature(name, function)
        self._check_executor()

    def __repr__(self) -> str:
        return f"<Task {self.name} on {self.policy.queue}>"

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it to its queue.

        Raises Invalid for arguments that JSON cannot carry, RedisUnavailable when it is unknown whether it was taken.
        """
        return await self.send(self.bound({}, args, kwargs))

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> Prepared[object, R]:
        """What would be sent, for `Stoker.enqueue_many`, chains, groups and `Context.enqueue`."""
        return self.bound({}, args, kwargs)

    def piped(self: "Piped[T, Q, R]", *args: Q.args, **kwargs: Q.kwargs) -> Prepared[T, R]:
        """The same for a link of a chain whose first parameter takes the result of what went before."""
        return cast(Task[..., R], self).link({}, args, kwargs)

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """The same for code without an event loop, from any thread. Raises as `enqueue`, and Invalid on a thread with a loop."""
        return from_sync("await enqueue(...)", lambda: self.send(self.bound({}, args, kwargs)), self.app.close)

    def options(self, **options: Unpack[Options]) -> "BoundTask[P, R]":
        """The same task with other options for one call. Raises TypeError for an option that there is not."""
        check_known(options)
        return BoundTask(self, options)

    def handle(self, task_id: str, queue: str | None = None) -> Handle[R]:
        """What `enqueue` returned for the one with this id: in another request, another process, another day.

        Nothing is asked of Redis yet; where there is no such task, `status` raises NotFound. `queue` where it went to another one.
        """
        return Handle(self, check_queue(queue or self.policy.queue), check_id(task_id), duplicate=False)

    @cached_property
    def is_async(self) -> bool:
        """True for `async def`; other functions run in a thread."""
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def executor(self) -> Literal["loop", "thread", "process"]:
        """Where it runs: async functions on the event loop, others in a thread unless they asked for a process."""
        return "loop" if self.is_async else self.policy.executor or "thread"

    @property
    def plan(self) -> Plan | None:
        """What the function is given besides its arguments; None where it wants nothing else."""
        overrides = self.app.dependency_overrides
        return plan(self.function, on_loop=self.is_async, overrides=overrides) if overrides else self._plan

    def decode_arguments(self, payload: bytes) -> dict[str, Any]:
        """The payload as arguments of the declared types. Raises Invalid that names the parameter."""
        return self.signature.decode(payload)

    def decode_result(self, value: bytes) -> R:
        """A result from JSON to the declared return type."""
        result: R = self.signature.decode_result(value)
        return result

    def call(self, options: Options, *args: Any, **kwargs: Any) -> Prepared[Any, R]:
        """What is sent for these arguments. Raises Invalid when they do not fit the signature."""
        return self.bound(options, args, kwargs)

    def bound(self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any], into: str | None = None) -> Prepared[Any, R]:
        """What is sent for these arguments; `into` is still to come. Raises Invalid when they do not fit the signature."""
        bound = self.signature.bind(args, kwargs) if into is None else self.signature.bind_without(into, args, kwargs)
        payload = self.signature.encode(bound)
        policy = self.policy
        unique, concurrency = options.get("unique", policy.unique), options.get("concurrency", policy.concurrency)
        claim = unique.claim(self.name, payload, args, kwargs) if unique else None
        limit = concurrency.of(self.signature.with_defaults(bound), args, kwargs) if concurrency else None
        call: Prepared[Any, R] = Prepared(
            origin=self,
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

    def link(self, options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Prepared[Any, R]:
        """The same where the first free parameter is still to come."""
        return self.bound(options, args, kwargs, self.signature.receiver(kwargs))

    async def send(self, call: TaskCall) -> Handle[R]:
        """Send one of its calls, which `call` has made."""
        [receipt] = taken(await self.app.offer((call,)))
        return Handle(self, call.queue, receipt.id, duplicate=receipt.duplicate)

    def check(self) -> None:
        """Raises Invalid where the type hints cannot be resolved or are not of a kind that JSON can carry."""
        self.signature.check()
        try:
            wanted = self._plan
        except Invalid as error:
            raise Invalid(f"task {self.name}: {error}") from error
        if self.executor == "process" and wanted and (wanted.outer or wanted.states):
            what = (
                f"dependency {name_of(wanted.outer[0].factory)} needs the event loop"
                if wanted.outer
                else "State is the worker's own"
            )
            raise Invalid(f"task {self.name}: {what}, and a child process has none: open what it needs within the child")

    def check_state(self, state: object) -> None:
        """Raises Invalid where what the lifespan yields is not what the function wants of it."""
        for expected in self.plan.states if self.plan else ():
            if not fits(state, expected):
                wanted = f"task {self.name} wants State[{getattr(expected, '__name__', expected)}]"
                raise Invalid(f"{wanted}, and the lifespan of {self.app.name} yields {type(state).__name__}")

    @cached_property
    def _plan(self) -> Plan | None:
        return plan(self.function, on_loop=self.is_async, overrides={})

    def _check_executor(self) -> None:
        wanted = self.policy.executor
        if wanted not in {None, "thread", "process"}:
            raise Invalid(f'task {self.name}: bad executor {wanted!r}: use "thread" or "process"')
        if wanted and self.is_async:
            raise Invalid(
                f'task {self.name}: an async function runs on the event loop; for executor="{wanted}" make it a plain def'
            )


class TaskFunction(Task[P, R], Generic[Whole, C, P, R]):
    """What `@app.task(...)` makes of a function: a task, and called it is still that function.

    `Whole` are all parameters of the function and C is what a call of it gives; P are those that a caller of `enqueue` gives
    and R is the task's result.
    """

    def __init__(self, app: Application, name: str, function: Callable[Whole, C], policy: Policy) -> None:
        super().__init__(app, name, function, policy)
        update_wrapper(self, function)

    def __call__(self, *args: Whole.args, **kwargs: Whole.kwargs) -> C:
        """Call the function here and now, with no queue. Nothing is injected: give what the function wants.

        Raises TypeError where a parameter whose default is `Depends(...)` or INJECTED is left out.
        """
        self.signature.check_plain_call(args, kwargs)
        result: C = self.function(*args, **kwargs)
        return result


class BoundTask(Generic[P, R]):
    """A task with the options of one call."""

    def __init__(self, task: Task[P, R], options: Options) -> None:
        self._task = task
        self._options = options

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it. Raises as `Task.enqueue`, and Conflict when another task has the id or the key."""
        return await self._task.send(self.prepare(*args, **kwargs))

    def enqueue_sync(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """The same for code without an event loop; see `Task.enqueue_sync`."""
        return from_sync("await enqueue(...)", lambda: self._task.send(self.prepare(*args, **kwargs)), self._task.app.close)

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> Prepared[object, R]:
        """See `Task.prepare`."""
        return self._task.bound(self._options, args, kwargs)

    def piped(self: "Piped[T, Q, R]", *args: Q.args, **kwargs: Q.kwargs) -> Prepared[T, R]:
        """See `Task.piped`."""
        call = cast(BoundTask[..., R], self)
        return call._task.link(call._options, args, kwargs)
