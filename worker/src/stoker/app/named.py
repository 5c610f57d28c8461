"""A task that is known by its name only: another program declares it, perhaps in another language."""

from typing import Any

from msgspec.structs import replace

from stoker.app.application import Application
from stoker.app.prepared import Origin
from stoker.app.task import Task
from stoker.errors import Invalid
from stoker.rules.retry import Retry
from stoker.task.declaration import Declaration
from stoker.task.signature import Signature


class _AnySignature(Signature):
    """Of a function that cannot be seen: it takes anything by name."""

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by name. Raises Invalid for others."""
        if args:
            raise Invalid(f"task {self._name} is known by its name only: give its arguments by name")
        return kwargs

    def receiver(self, given: Any) -> str:
        """Raises Invalid: which parameter would take the result is not known."""
        raise Invalid(f"task {self._name} is known by its name only: no result can be piped into it")

    def with_defaults(self, bound: dict[str, Any]) -> dict[str, Any]:
        """The arguments: its defaults are not known."""
        return bound

    def check_arguments(self, bound: dict[str, Any], payload: bytes, into: str | None = None) -> None:
        """The worker does it."""


class _NamedDeclaration(Declaration):
    """What the application's configuration says of it travels with each call: the worker may not know it."""

    def __init__(self, name: str, application: Application) -> None:
        super().__init__(name, _unseen, application.configuration.policy(name, {}))
        self.signature = _AnySignature(name, _unseen)
        policy = self.policy
        given = {"timeout": policy.timeout, "soft_timeout": policy.soft_timeout, "retry": _numbers(policy.retry)}
        self.travelling = {option: value for option, value in given.items() if value is not None}


def named_task(application: Application, name: str) -> Task[..., Any]:
    """A task of this name, with what the application's configuration says of it now."""
    return Task(Origin(application, _NamedDeclaration(name, application)))


def _numbers(retry: Retry | int | None) -> Retry | int | None:
    """Without the exception classes, which only the worker knows."""
    return replace(retry, on=(), never=()) if isinstance(retry, Retry) else retry


def _unseen() -> Any: ...
