"""A task with its arguments, before it is sent: what chains, groups and running tasks are given."""

from typing import Generic, NamedTuple, TypeVar

from stoker.app.application import Application
from stoker.rules.call import TaskCall
from stoker.rules.workflow import Steps, TaskStep
from stoker.task.declaration import Declaration

R_co = TypeVar("R_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class Origin(NamedTuple):
    """The declaration of a task, and the application that sends it."""

    application: Application
    declaration: Declaration


class Prepared(TaskCall, Generic[T_contra, R_co], frozen=True, kw_only=True):
    """A task with its arguments. It takes a T (any object, where it takes none) and results in an R."""

    origin: Origin

    @property
    def _steps(self) -> Steps:
        """As a workflow of one task. Raises Invalid for values out of range."""
        self.check()
        return (TaskStep(self.message("", 0, {}), self.delay, self.run_at, self.claim, self.limit, self.into),)

    @property
    def _own_id(self) -> str | None:
        return self.own_id
