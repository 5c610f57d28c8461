"""What a type checker sees of `@app.task(...)`: a task that is called as its function is, and enqueued without its Context.

A type checker distinguishes functions by the arguments they accept. One whose first parameter accepts anything accepts a Context
too, without wanting it, so such functions are matched first, by an argument of a type that has no values. A protocol with two
overloads matches a function that matches both: the first captures all parameters, the second constrains the first of them.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar, final, overload

from stoker.app.task import P, R, TaskFunction, Whole
from stoker.task.context import Context

C_co = TypeVar("C_co", covariant=True)


@final
class Anything:
    """A type without values: a parameter that accepts it accepts anything."""


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
    """What `Stoker.task(...)` returns: the task of an async function results in the awaited value."""

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
