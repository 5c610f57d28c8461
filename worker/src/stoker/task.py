"""A task: a plain function that can also be enqueued. Calling it stays a plain call."""

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property, update_wrapper
from typing import Any, Concatenate, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, get_type_hints

import msgspec

from stoker.client import Client, TaskCall
from stoker.context import Context
from stoker.errors import Invalid
from stoker.queue.durability import check_durability
from stoker.queue.inspector import Cancellation, TaskStatus
from stoker.rules.concurrency import Concurrency
from stoker.rules.message import encode_payload
from stoker.rules.plan import Chain, Link
from stoker.rules.retry import Retry
from stoker.rules.unique import Unique

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
AsyncFunction = Callable[P, Coroutine[Any, Any, R]]
_ABSENT: Any = msgspec.UNSET


class Application(Protocol):
    """What a task wants of the application it belongs to."""

    @property
    def client(self) -> Client:
        """The running event loop's client."""
        ...


class Policy(msgspec.Struct, frozen=True):
    """What a task's declaration says beyond its function. None leaves it to the queue. `timeout` in seconds."""

    queue: str
    priority: int = 0
    timeout: float | None = None
    retry: Retry | None = None
    unique: Unique | None = None
    concurrency: Concurrency | None = None


class Options(TypedDict, total=False):
    """What one call may say: `delay` in seconds or `run_at`, and what it overrides of the task's policy.

    An `id` or an `idempotency_key` (any text) names the task: the same key again is the same task, for as long as it is kept.
    `unique` None: whatever the task's declaration says, this one is not unique; `concurrency` None: no key holds it back.
    """

    id: str
    queue: str
    priority: int
    delay: float
    run_at: datetime
    max_retries: int
    timeout: float
    idempotency_key: str
    unique: Unique | None
    concurrency: Concurrency | None
    durability: Literal["memory", "replicated", "fsynced"]


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

    async def cancel(self) -> Cancellation:
        """Cancel it: at once while it waits, with its worker's next heartbeat while it runs."""
        [answer] = await self._task.app.client.inspector.cancel(self.queue, [self.id])
        return answer

    async def result(self, timeout: float | None = None) -> R:
        """Wait for its result. Raises TaskFailed when it died, ResultPending after `timeout` seconds."""
        status = await self._task.app.client.wait(self.queue, self.id, timeout)
        return self._task.decode_result(bytes(status.result.value) if status.result else b"null")


class Task(Generic[P, R]):
    """A registered function. `enqueue` takes its own parameters; `options(...)` first, where one call differs."""

    def __init__(self, app: Application, name: str, function: Callable[..., Any], policy: Policy) -> None:
        self.app = app
        self.name = name
        self.function = function
        self.policy = policy
        self._signature = inspect.signature(function)
        self._refuse_star_parameters()
        update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<Task {self.name} on {self.policy.queue}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call the function here and now, with no queue."""
        return self.function(*args, **kwargs)

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it to its queue.

        Raises Invalid for arguments that JSON cannot carry, RedisUnavailable when it is unknown whether it was taken.
        """
        return await Call(self, {}).enqueue(*args, **kwargs)

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> "Prepared[object, R]":
        """What would be sent, for `Stoker.enqueue_many`, chains, groups and `Context.enqueue`."""
        return Call(self, {}).prepare(*args, **kwargs)

    def piped(self: "Task[Concatenate[T, Q], R]", *args: Q.args, **kwargs: Q.kwargs) -> "Prepared[T, R]":
        """The same for a link of a chain whose first parameter takes the result of what went before."""
        return Call(self, {}).piped(*args, **kwargs)

    def options(self, **options: Unpack[Options]) -> "Call[P, R]":
        """The same task with other options for one call."""
        return Call(self, options)

    @cached_property
    def is_async(self) -> bool:
        """True for `async def`; other functions run in a thread."""
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def context_parameter(self) -> str | None:
        """The parameter that is given the Context, if the function has one."""
        return next((name for name, hint in self._hints.items() if hint is Context and name != "return"), None)

    def decode_arguments(self, payload: bytes) -> dict[str, Any]:
        """The payload as arguments of the declared types. Raises Invalid that names the parameter."""
        try:
            arguments = self._arguments.decode(payload)
        except msgspec.MsgspecError as error:
            raise Invalid(f"arguments do not fit {self.name}{self._signature}: {error}") from error
        return {name: getattr(arguments, name) for name in arguments.__struct_fields__ if getattr(arguments, name) is not _ABSENT}

    def decode_result(self, value: bytes) -> R:
        """A result from JSON to the declared return type."""
        hint = self._hints.get("return", Any)
        result: R = msgspec.json.decode(value, type=hint, strict=False)
        return result

    def receiver(self, given: Iterable[str]) -> str:
        """The first parameter that is free. Raises Invalid where there is none."""
        free = (name for name in self._signature.parameters if name != self.context_parameter and name not in given)
        if (name := next(free, None)) is None:
            raise Invalid(f"{self.name}{self._signature} has no parameter left that could take a result: prepare() it instead")
        return name

    def call(self, options: Options, args: Sequence[Any], kwargs: Mapping[str, Any], into: str | None = None) -> "Prepared[Any, R]":
        """What is sent for these arguments; `into` is still to come. Raises Invalid when they do not fit the signature."""
        try:
            bound = self._bind(args, kwargs, into)
        except TypeError as error:
            raise Invalid(f"arguments do not fit {self.name}{self._signature}: {error}") from error
        run_at, payload = options.get("run_at"), encode_payload(bound)
        unique = options.get("unique", self.policy.unique)
        concurrency = options.get("concurrency", self.policy.concurrency)
        return Prepared(
            origin=self,
            into=into,
            task=self.name,
            queue=options.get("queue", self.policy.queue),
            payload=payload,
            priority=options.get("priority", self.policy.priority),
            delay=options.get("delay", 0.0),
            run_at=run_at.timestamp() if run_at else 0.0,
            id=options.get("id"),
            max_retries=options.get("max_retries"),
            timeout=options.get("timeout"),
            idempotency_key=options.get("idempotency_key"),
            claim=unique.claim(self.name, payload, args, kwargs) if unique else None,
            limit=concurrency.of(self._named(bound), args, kwargs) if concurrency else None,
            durability=check_durability(options.get("durability", "memory")),
        )

    def check(self) -> None:
        """Raises Invalid where the type hints cannot be resolved or are not of a kind that JSON can carry."""
        try:
            _ = self._arguments
        except (NameError, TypeError) as error:
            raise Invalid(f"task {self.name}: its type hints cannot be used for JSON arguments: {error}") from error

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function, include_extras=True)

    @cached_property
    def _arguments(self) -> msgspec.json.Decoder[Any]:
        fields = [
            (name, self._hints.get(name, Any))
            if parameter.default is parameter.empty
            else (name, self._hints.get(name, Any), _ABSENT)
            for name, parameter in self._signature.parameters.items()
            if name != self.context_parameter
        ]
        shape = msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
        return msgspec.json.Decoder(shape)

    def _named(self, bound: dict[str, Any]) -> dict[str, Any]:
        defaults = {name: each.default for name, each in self._signature.parameters.items() if each.default is not each.empty}
        return {**defaults, **bound}

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any], into: str | None) -> dict[str, Any]:
        if self.context_parameter is None and into is None:
            return self._signature.bind(*args, **kwargs).arguments
        parameters = [p for name, p in self._signature.parameters.items() if name not in (self.context_parameter, into)]
        return self._signature.replace(parameters=parameters).bind(*args, **kwargs).arguments

    def _refuse_star_parameters(self) -> None:
        for parameter in self._signature.parameters.values():
            if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
                raise Invalid(
                    f"task {self.name}: parameter {parameter} has no name on the wire; give it one, or take a list or dict"
                )


class Call(Generic[P, R]):
    """A task with the options of one call."""

    def __init__(self, task: Task[P, R], options: Options) -> None:
        self._task = task
        self._options = options

    async def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Send it. Raises as `Task.enqueue`, and Conflict when another task has the id or the key."""
        call = self.prepare(*args, **kwargs)
        [receipt] = await self._task.app.client.send([call])
        return Handle(self._task, call.queue, receipt.id, duplicate=receipt.duplicate)

    def prepare(self, *args: P.args, **kwargs: P.kwargs) -> "Prepared[object, R]":
        """See `Task.prepare`."""
        return self._task.call(self._options, args, kwargs)

    def piped(self: "Call[Concatenate[T, Q], R]", *args: Q.args, **kwargs: Q.kwargs) -> "Prepared[T, R]":
        """See `Task.piped`."""
        return self._task.call(self._options, args, kwargs, self._task.receiver(kwargs))


class Prepared(TaskCall, Generic[T_contra, R_co], frozen=True, kw_only=True):
    """A task with its arguments. It takes a T (any object, where it takes none) and results in an R."""

    origin: Task[..., R_co]

    @property
    def steps(self) -> Chain:
        """As a workflow of one task."""
        self.check()
        return (Link(self.message("", 0, {}), self.into, self.delay, self.run_at, self.claim, self.limit),)
