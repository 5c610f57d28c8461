"""`on_dead`: which task handles the death of which. Workers announce it, for the script that buries a task."""

from typing import Any, Protocol

import msgspec

from stoker.app.application import Application
from stoker.app.prepared import Origin, Prepared
from stoker.app.task import Task
from stoker.errors import Invalid
from stoker.rules.announcement import MAX_NAMES
from stoker.rules.dead_task import LONGEST_STEP, DeadTask, DeathCause
from stoker.rules.settle import Failure
from stoker.task.declaration import Declaration

_SAMPLE = DeadTask("id", "task", "queue", DeathCause.FAILED, 0, 1, Failure("Error", "no", "", ""), {})


class TakesStory(Protocol):
    """A task that can handle the death of others: its first parameter takes their story."""

    name: str

    def prepare(self, dead: DeadTask, /) -> Prepared[object, Any]: ...


class TakesNothing(Protocol):
    """A task that can handle the death of others without their story."""

    name: str

    def prepare(self) -> Prepared[object, Any]: ...


OnDead = TakesStory | TakesNothing | str


def name_of(handler: object) -> str:
    """The name of a handler that is given as a task or by its name. Raises Invalid for anything else."""
    if isinstance(handler, Task):
        return handler.name
    if isinstance(handler, str) and handler:
        return handler
    raise Invalid(f"bad on_dead {handler!r:.80}: give a task, or its name")


def hooks_of(application: Application) -> dict[str, str]:
    """Task name -> the step (JSON) that handles its death. "": for all others, of an application that does not announce its names.

    At most 200 names are given, the first in order. Raises Invalid for a handler that cannot be one.
    """
    default, own = application.on_dead_default, application.on_dead
    if not own and default is None:
        return {}
    steps = {name: _step(application, name) for name in {*own.values(), *([default] if default else [])}}
    handlers = {*own.values(), default}
    wanted = dict(own)
    if default and len(application.declarations) > MAX_NAMES:
        wanted[""] = default
    elif default:
        wanted = {name: default for name in application.declarations if name not in handlers} | wanted
    return {name: steps[wanted[name]] for name in sorted(wanted)[:MAX_NAMES]}


def _step(application: Application, name: str) -> str:
    declaration = application.declarations.get(name)
    if declaration is None:
        raise Invalid(f"on_dead names {name!r}, and {application.name} declares no task of that name")
    if declaration.policy.unique:
        raise Invalid(f"task {name} is unique, and handles dead tasks: two that die would have one handler")
    _check_story(declaration)
    task: Task[..., Any] = Task(Origin(application, declaration))
    takes = declaration.signature.called.parameters
    call = task._pipe({}, (), {}) if takes else task.prepare()
    [step] = call._steps
    raw = msgspec.json.encode(step)
    if len(raw) > LONGEST_STEP:
        raise Invalid(f"task {name} handles dead tasks: its options have {len(raw)} bytes, at most {LONGEST_STEP} are announced")
    return raw.decode()


def _check_story(declaration: Declaration) -> None:
    """Raises Invalid where the first parameter does not take a DeadTask, or another one has no default."""
    signature = declaration.signature
    if not signature.called.parameters:
        return
    try:
        first = signature.receiver(())
        signature.bind_without(first, (), {})
        declaration.decode_arguments(msgspec.json.encode({first: _SAMPLE}))
    except Invalid as error:
        raise Invalid(f"task {declaration.name} handles dead tasks, so its one argument is a DeadTask: {error}") from error
