"""A task with its arguments, before it is sent: what chains, groups and running tasks are given."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

from stoker.client.call import TaskCall
from stoker.client.client import Client
from stoker.errors import Conflict
from stoker.queue.records import Receipt
from stoker.rules.plan import Chain, Link
from stoker.task.dependencies import Factory

R_co = TypeVar("R_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
Send = Callable[[Sequence[TaskCall]], Awaitable[list[Receipt]]]


class Application(Protocol):
    """What a task wants of the application it belongs to."""

    name: str
    dependency_overrides: dict[Factory, Factory]

    @property
    def client(self) -> Client:
        """The running event loop's client."""
        ...

    def send(self, calls: Sequence[TaskCall]) -> Awaitable[list[Receipt]]:
        """Enqueue in order, through the application's middleware."""
        ...

    def offer(self, calls: Sequence[TaskCall]) -> Awaitable[Sequence[Receipt | Conflict]]:
        """The same for those who raise a Conflict themselves."""
        ...

    def send_whole(self, parts: Sequence[TaskCall], by: Send) -> Awaitable[list[Receipt]]:
        """The parts of a workflow through the application's middleware, and then `by` a way of their own."""
        ...

    async def close(self) -> None:
        """Give the running loop's connections back."""
        ...


class Origin(Protocol[R_co]):
    """The task that was prepared."""

    @property
    def name(self) -> str:
        """On the wire."""
        ...

    @property
    def app(self) -> Application:
        """Where it is registered."""
        ...

    def decode_result(self, value: bytes) -> R_co:
        """A result from JSON to the declared return type."""
        ...


class Prepared(TaskCall, Generic[T_contra, R_co], frozen=True, kw_only=True):
    """A task with its arguments. It takes a T (any object, where it takes none) and results in an R."""

    origin: Origin[R_co]

    @property
    def steps(self) -> Chain:
        """As a workflow of one task."""
        self.check()
        return (Link(self.message("", 0, {}), self.into, self.delay, self.run_at, self.claim, self.limit),)
