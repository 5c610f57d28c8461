"""Records that a test reads: the runs of its tasks, and the tasks with their states."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stoker.app.app import Stoker, application_of
from stoker.errors import Invalid
from stoker.queue.records import Delivery, TaskStatus
from stoker.rules.message import Message
from stoker.rules.settle import Bury, Cancel, Failure, Release, Retry, Snooze, Succeed, Transition, Unclaim
from stoker.rules.states import TaskState
from stoker.telemetry.metrics import TaskCollector
from stoker.worker.run.observer import RunObserver

_WORDS: dict[type[Transition], str] = {
    Succeed: "succeeded",
    Retry: "retried",
    Bury: "dead",
    Snooze: "snoozed",
    Unclaim: "unclaimed",
    Release: "released",
    Cancel: "cancelled",
}


@dataclass
class Run:
    """One run of a task. `outcome`: running, succeeded, retried, dead, snoozed, unclaimed, released or cancelled. `again_in`: s."""

    task: str
    arguments: Mapping[str, Any]
    id: str
    queue: str
    attempt: int
    outcome: str = "running"
    result: Any = None
    failure: Failure | None = field(default=None, repr=False)
    again_in: float | None = None

    def __str__(self) -> str:
        said = f": {self.failure.type}: {self.failure.message}" if self.failure else ""
        return f"{call_of(self.task, self.arguments)} attempt {self.attempt} {self.outcome}{said}"


@dataclass(frozen=True)
class Enqueued:
    """One task in any state. `due_in` is seconds by the kit's clock, 0 unless it is scheduled."""

    task: str
    arguments: Mapping[str, Any]
    id: str
    queue: str
    state: TaskState
    priority: int
    attempts: int
    due_in: float
    failure: Failure | None = field(repr=False)

    def __str__(self) -> str:
        said = f": {self.failure.type}: {self.failure.message}" if self.failure else ""
        return f"{call_of(self.task, self.arguments)} is {self.state.value}{said}"


def call_of(task: str, arguments: Mapping[str, Any]) -> str:
    """The call, as Python writes it."""
    return f"{task}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def enqueued(app: Stoker, status: TaskStatus, now: float) -> Enqueued:
    """The record of a task. `now` is the kit's time in seconds."""
    due_in = (status.at or 0) / 1000 - now if status.state is TaskState.SCHEDULED else 0.0
    arguments = _arguments(app, status.task, bytes(status.payload))
    common = (status.id, status.queue, status.state, status.priority, status.attempts)
    return Enqueued(status.task, arguments, *common, max(0.0, due_in), status.failure)


class RunRecorder(RunObserver):
    """Counts and logs as every worker does, and appends each run to `runs` when it begins."""

    def __init__(self, collector: TaskCollector, app: Stoker, runs: list[Run]) -> None:
        super().__init__(collector, app.tasks)
        self._app = app
        self._runs = runs
        self._open: dict[str, Run] = {}

    def started(self, message: Message, delivery: Delivery) -> None:
        """A run begins."""
        super().started(message, delivery)
        arguments = _arguments(self._app, message.task, bytes(message.payload))
        self._open[delivery.fence] = run = Run(message.task, arguments, message.id, message.queue, delivery.attempt)
        self._runs.append(run)

    def ended(self, message: Message | None, delivery: Delivery, transition: Transition, seconds: float) -> None:
        """A run has ended."""
        super().ended(message, delivery, transition, seconds)
        if run := self._open.pop(delivery.fence, None):
            run.outcome = _WORDS[type(transition)]
            match transition:
                case Succeed(value):
                    declaration = application_of(self._app).declarations[run.task]
                    run.result = None if declaration.policy.ignore_result else declaration.decode_result(value)
                case Retry(delay, failure):
                    run.again_in, run.failure = delay, failure
                case Bury(failure):
                    run.failure = failure
                case Snooze(delay):
                    run.again_in = delay


def _arguments(app: Stoker, name: str, payload: bytes) -> Mapping[str, Any]:
    """Decoded to the types that the task declares; plain JSON where they do not fit, or the task is unknown."""
    task = application_of(app).declarations.get(name)
    try:
        return task.decode_arguments(payload) if task else msgspec.json.decode(payload)
    except Invalid:
        return dict(msgspec.json.decode(payload))
