"""A task as workers see it: its function, its policy, what its arguments become as JSON and what is injected into it."""

import inspect
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal

from stoker.errors import Invalid
from stoker.task.dependencies import Factory, Plan, fits, name_of, plan
from stoker.task.options import Policy
from stoker.task.signature import Signature


class Declaration:
    """One `@app.task(...)`. Raises Invalid for a function or an executor that cannot be a task's."""

    def __init__(self, name: str, function: Callable[..., Any], policy: Policy) -> None:
        self.name = name
        self.function = function
        self.policy = policy
        self.signature = Signature(name, function)
        self._check_executor()

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
        """A result from JSON to the declared return type. Raises Invalid where it does not fit."""
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
