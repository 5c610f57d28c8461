"""A task as workers see it: its function, its policy, what its arguments become as JSON and what is injected into it."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Literal

from stoker.errors import Invalid
from stoker.task.dependencies import Factory, Plan, fits, name_of, plan
from stoker.task.options import Policy
from stoker.task.signature import Signature


class Declaration:
    """One `@app.task(...)`. Raises Invalid for a function or an executor that cannot be a task's.

    `declared` are the options that it gives itself; `policy` has those of the application's configuration too.
    """

    def __init__(self, name: str, function: Callable[..., Any], policy: Policy, declared: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.function = function
        self.policy = policy
        self.declared = declared or {}
        _check_kind(name, function)
        self.signature = Signature(name, function)
        self._check_executor()

    travelling: Mapping[str, Any] = {}
    """Options that each call takes along: those of a task whose worker may not know them."""

    @cached_property
    def is_async(self) -> bool:
        """True for `async def`."""
        return inspect.iscoroutinefunction(self.function)

    @cached_property
    def executor(self) -> Literal["loop", "thread", "process"]:
        """Where it runs: async functions on the event loop, others in a thread unless they asked for a process."""
        return "loop" if self.is_async else self.policy.executor or "thread"

    def plan(self, overrides: Mapping[Factory, Factory]) -> Plan | None:
        """What is injected into the function; None where it wants nothing besides its arguments."""
        return plan(self.function, on_loop=self.is_async, overrides=overrides) if overrides else self._plan

    def decode_arguments(self, payload: bytes) -> dict[str, Any]:
        """The payload as arguments of the declared types. Raises Invalid that names the parameter."""
        return self.signature.decode(payload)

    def decode_result(self, value: bytes) -> Any:
        """A result from JSON to the declared return type. Raises Invalid where it does not fit, and where none was kept."""
        if self.policy.ignore_result and value == b"null":
            raise Invalid(f"task {self.name} keeps no result (ignore_result=True): ask for its status()")
        return self.signature.decode_result(value)

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

    def check_state(self, state: object, overrides: Mapping[Factory, Factory], application: str) -> None:
        """Raises Invalid where what the lifespan of the application yields is not the State that the function wants."""
        wanted = self.plan(overrides)
        for expected in wanted.states if wanted else ():
            if not fits(state, expected):
                words = f"task {self.name} wants State[{getattr(expected, '__name__', expected)}]"
                raise Invalid(f"{words}, and the lifespan of {application} yields {type(state).__name__}")

    @cached_property
    def _plan(self) -> Plan | None:
        return plan(self.function, on_loop=self.is_async, overrides={})

    def _check_executor(self) -> None:
        wanted = self.policy.executor
        if wanted not in (None, "thread", "process"):
            raise Invalid(f'task {self.name}: bad executor {wanted!r}: use "thread" or "process"')
        if wanted and self.is_async:
            raise Invalid(
                f'task {self.name}: an async function runs on the event loop; for executor="{wanted}" make it a plain def'
            )


def _check_kind(name: str, function: Callable[..., Any]) -> None:
    """Raises Invalid for what is called without running to its result, and for what is no function."""
    if isinstance(function, partial | type | staticmethod | classmethod) or not inspect.isroutine(function):
        kind = "class" if isinstance(function, type) else type(function).__name__
        raise Invalid(f"task {name}: a {kind} cannot be a task: write a function that calls it")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise Invalid(f"task {name}: a generator function yields, and a task returns: collect what it yields in a list")
    if inspect.iscoroutinefunction(inspect.unwrap(function)) and not inspect.iscoroutinefunction(function):
        words = "a plain wrapper around an async function returns a coroutine that is never awaited: make the wrapper async def"
        raise Invalid(f"task {name}: {words}, or where it runs the coroutine itself, delete its __wrapped__")
    within = function.__qualname__.rpartition(".")[0]
    first = next(iter(inspect.signature(function).parameters), None)
    if first in ("self", "cls") and within and not within.endswith("<locals>"):
        raise Invalid(f"task {name}: a method of {within} has no object on a worker: move it out of the class")
