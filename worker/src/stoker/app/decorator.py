"""What a type checker sees of `@app.task(...)`: a task that is called as its function is, and enqueued without its Context.

A function can only be told by what may be given to it. One that takes anything as its first argument takes a Context as well
and does not mean to, so it is looked for first, with an argument that nobody has. A protocol with two overloads is met by a
function that meets both: the first overload notes all of its parameters, the second asks about the first of them.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, final, overload

from stoker.app.task import P, R, TaskFunction, Whole
from stoker.task.context import Context

C_co = TypeVar("C_co", covariant=True)


@final
class Anything:
    """No value is one: who takes it takes anything."""


class TakesAnything(Protocol[P, C_co]):
    """A function whose first parameter takes any object."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C_co: ...
    @overload
    def __call__(self, first: Anything, /, *args: Any, **kwargs: Any) -> C_co: ...


class TakesContext(Protocol[Whole, P, C_co]):
    """A function whose first parameter takes the Context; P are those that follow."""

    @overload
    def __call__(self, *args: Whole.args, **kwargs: Whole.kwargs) -> C_co: ...
    @overload
    def __call__(self, ctx: Context, /, *args: P.args, **kwargs: P.kwargs) -> C_co: ...


class Decorator(Protocol):
    """What `Stoker.task(...)` returns: an async function's task results in what it returns when awaited."""

    @overload
    def __call__(self, function: TakesAnything[P, Coroutine[Any, Any, R]]) -> TaskFunction[P, Coroutine[Any, Any, R], P, R]: ...
    @overload
    def __call__(self, function: TakesAnything[P, R]) -> TaskFunction[P, R, P, R]: ...
    @overload
    def __call__(
        self, function: TakesContext[Whole, P, Coroutine[Any, Any, R]]
    ) -> TaskFunction[Whole, Coroutine[Any, Any, R], P, R]: ...
    @overload
    def __call__(self, function: TakesContext[Whole, P, R]) -> TaskFunction[Whole, R, P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]]) -> TaskFunction[P, Coroutine[Any, Any, R], P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R]) -> TaskFunction[P, R, P, R]: ...
    def __call__(self, function: Any) -> Any: ...
