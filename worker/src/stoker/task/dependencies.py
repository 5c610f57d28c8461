"""Dependency injection: values that a task's function gets besides its arguments, by annotation.

    Db = Annotated[Session, Depends(get_session)]

    @app.task()
    async def ship(ctx: Context, order: int, db: Db = INJECTED, shop: State[Shop] = INJECTED) -> None: ...

The default INJECTED is for type checkers: callers of `enqueue` need not give a value. A function's dependencies are resolved
once, into a plan: a list in the order of opening. A run follows the plan, and closes them in reverse order before its outcome is
recorded.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from stoker.errors import Invalid
from stoker.task.context import Context

T = TypeVar("T")
Factory = Callable[..., Any]
CONTEXT, STATE = 0, 1
"""Indices of a run's values: the Context, what the lifespan yields, then one value for each step."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """A parameter's mark, from `Depends(...)`. Without a factory, the annotated type is called."""

    dependency: Factory | None = None
    use_cache: bool = True


class _Injected:
    def __repr__(self) -> str:
        return "INJECTED"


INJECTED: Any = _Injected()
"""The default of an injected parameter, so that type checkers do not require it of callers: `shop: State[Shop] = INJECTED`."""


class _FromLifespan:
    def __repr__(self) -> str:
        return "State"


_FROM_LIFESPAN = _FromLifespan()
State = Annotated[T, _FROM_LIFESPAN]
"""`State[Shop]`: what the application's lifespan yields, which must be a `Shop`."""


def Depends(dependency: Factory | None = None, *, use_cache: bool = True) -> Any:  # noqa: N802 (the name of FastAPI's)
    """Mark a parameter: its value is what `dependency` returns, or yields and closes after the run.

    Within `Annotated`, or as the parameter's default. Within one run each dependency is opened once, unless `use_cache` is False.
    """
    return Dependency(dependency, use_cache)


class Kind(Enum):
    """How a dependency makes its value."""

    PLAIN = auto()
    AWAITED = auto()
    GENERATOR = auto()
    ASYNC_GENERATOR = auto()

    @property
    def needs_the_loop(self) -> bool:
        """Whether it can only be opened on the event loop."""
        return self in (Kind.AWAITED, Kind.ASYNC_GENERATOR)


class Step(NamedTuple):
    """One dependency to open. `arguments`: parameter names, and indices of the run's values so far."""

    factory: Factory
    kind: Kind
    arguments: tuple[tuple[str, int], ...]


class Plan(NamedTuple):
    """The injected values of one function. `outer` steps run on the event loop, `inner` ones where the function runs.

    `states` are the types it wants of what the lifespan yields.
    """

    parameters: tuple[tuple[str, int], ...]
    outer: tuple[Step, ...]
    inner: tuple[Step, ...]
    states: tuple[Any, ...]

    def given(self, values: Sequence[Any]) -> dict[str, Any]:
        """The function's injected arguments, from a run's values."""
        return {name: values[at] for name, at in self.parameters}


def injected(function: Factory, hints: Mapping[str, Any]) -> frozenset[str]:
    """The names of the injected parameters."""
    return frozenset(_wishes(function, hints))


def placeholders(signature: inspect.Signature) -> frozenset[str]:
    """The names of the parameters whose default is only a mark of injection."""
    defaults = {name: each.default for name, each in signature.parameters.items()}
    return frozenset(name for name, default in defaults.items() if _is_mark(default) or isinstance(default, _Injected))


def fits(state: object, expected: Any) -> bool:
    """Whether what the lifespan yields is of the expected type. Types without isinstance (TypedDict, most protocols) always fit."""
    try:
        return isinstance(state, expected)
    except TypeError:
        return True


def plan(function: Factory, *, on_loop: bool, overrides: Mapping[Factory, Factory]) -> Plan | None:
    """The plan of `function`; None where it wants nothing but its arguments.

    `on_loop`: it runs on the event loop; else in a thread, as do the plain dependencies that nothing on the loop needs.
    `overrides` replace dependencies. Raises Invalid for a dependency with a parameter that is not injected, and for a cycle.
    """
    drawing = _Drawing(on_loop=on_loop, overrides=overrides)
    wishes = _wishes(function, _hints(function))
    return drawing.plan({name: drawing.source(wish, (function,)) for name, wish in wishes.items()}) if wishes else None


class _State(NamedTuple):
    """A parameter that wants what the lifespan yields."""

    expected: Any


class _Value(NamedTuple):
    """A parameter that wants a dependency's value."""

    factory: Factory
    once: bool


_Wish = _Value | _State | type[Context]


def _wishes(function: Factory, hints: Mapping[str, Any]) -> dict[str, _Wish]:
    parameters = inspect.signature(function).parameters
    found = {name: _wish(hints.get(name), each.default) for name, each in parameters.items()}
    for name, wish in found.items():
        if wish is None and isinstance(parameters[name].default, _Injected):
            raise Invalid(
                f"{parameters[name]}: nothing says what is injected. Annotate it as Context, State[...] or with Depends(...)"
            )
    return {name: wish for name, wish in found.items() if wish is not None}


def _wish(hint: Any, default: Any) -> _Wish | None:
    if _is_mark(default):
        return _Value(default.dependency or hint, default.use_cache)
    if hint is Context or (get_origin(hint) in (Union, UnionType) and Context in get_args(hint)):
        return Context
    if get_origin(hint) is not Annotated:
        return None
    for mark in hint.__metadata__:
        if mark is _FROM_LIFESPAN:
            return _State(hint.__origin__)
        if _is_mark(mark):
            return _Value(mark.dependency or hint.__origin__, mark.use_cache)
    return Context if hint.__origin__ is Context else None


def _is_mark(value: object) -> bool:
    return isinstance(value, Dependency) or type(value).__name__ == "Depends"  # FastAPI's own mark has the same fields


@dataclass(eq=False, slots=True)
class _Node:
    factory: Factory
    kind: Kind
    arguments: dict[str, "_Node | int"]
    outer: bool = False


@dataclass(slots=True)
class _Drawing:
    """A plan under construction. Nodes are in the order in which they can be opened."""

    on_loop: bool
    overrides: Mapping[Factory, Factory]
    _nodes: list[_Node] = field(default_factory=list)
    _known: dict[Factory, _Node] = field(default_factory=dict)
    _states: list[Any] = field(default_factory=list)

    def source(self, wish: _Wish, path: tuple[Factory, ...]) -> _Node | int:
        """Where the wanted value comes from; `path` leads from the task's function to the function that wants it."""
        if isinstance(wish, _State):
            self._states.append(wish.expected)
            return STATE
        if not isinstance(wish, _Value):
            return CONTEXT
        factory = self.overrides.get(wish.factory, wish.factory)
        if factory in path:
            raise Invalid(f"dependency {' -> '.join(map(name_of, (*path, factory)))} goes round in a circle")
        if wish.once and factory in self._known:
            return self._known[factory]
        node = _Node(factory, _kind(factory), self._arguments(factory, (*path, factory)))
        self._nodes.append(node)
        return self._known.setdefault(factory, node) if wish.once else node

    def plan(self, sources: Mapping[str, "_Node | int"]) -> Plan:
        """The plan of a function with these sources for its parameters."""
        for node in reversed(self._nodes):
            node.outer = node.outer or self.on_loop or node.kind.needs_the_loop
            for source in node.arguments.values():
                if isinstance(source, _Node):
                    source.outer = source.outer or node.outer
        outer = [node for node in self._nodes if node.outer]
        inner = [node for node in self._nodes if not node.outer]
        indices = {node: at for at, node in enumerate([*outer, *inner], STATE + 1)}

        def located(wanted: Mapping[str, "_Node | int"]) -> tuple[tuple[str, int], ...]:
            return tuple((name, indices[each] if isinstance(each, _Node) else each) for name, each in wanted.items())

        def steps(nodes: Sequence[_Node]) -> tuple[Step, ...]:
            return tuple(Step(node.factory, node.kind, located(node.arguments)) for node in nodes)

        return Plan(located(sources), steps(outer), steps(inner), tuple(self._states))

    def _arguments(self, factory: Factory, path: tuple[Factory, ...]) -> dict[str, "_Node | int"]:
        try:
            wishes, parameters = _wishes(factory, _hints(factory)), inspect.signature(factory).parameters
        except (TypeError, ValueError, NameError) as error:
            raise Invalid(f"dependency {name_of(factory)} cannot be read: {error}") from error
        for name, each in parameters.items():
            if name not in wishes and each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                wanted = f"dependency {name_of(factory)} wants {each}, which nobody gives"
                raise Invalid(f"{wanted}: make it a dependency, State or Context, or give it a default")
        return {name: self.source(wish, path) for name, wish in wishes.items()}


def _hints(function: Factory) -> dict[str, Any]:
    """The type hints of a function, of a class's __init__, or of an object's __call__."""
    if isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        function = function.__init__  # type: ignore[misc]
    elif not inspect.isroutine(function):
        function = type(function).__call__
    return get_type_hints(function, include_extras=True)


def _kind(factory: Factory) -> Kind:
    function = factory.func if isinstance(factory, partial) else factory
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    if inspect.isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function):
        return Kind.AWAITED
    return Kind.GENERATOR if inspect.isgeneratorfunction(function) else Kind.PLAIN


def name_of(factory: Factory) -> str:
    """For messages."""
    return getattr(factory, "__qualname__", None) or repr(factory)
