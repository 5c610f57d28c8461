"""What a test reads: the runs that there were, and the tasks that there are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stoker.app.app import Stoker
from stoker.errors import Invalid
from stoker.queue.records import Delivery, TaskStatus
from stoker.rules.message import Message
from stoker.rules.settle import Bury, Cancel, Failure, Release, Retry, Snooze, Succeed, Transition
from stoker.rules.states import TaskState
from stoker.telemetry.metrics import TaskCollector
from stoker.worker.run.report import Reporter

_WORDS: dict[type[Transition], str] = {
    Succeed: "succeeded",
    Retry: "retried",
    Bury: "dead",
    Snooze: "snoozed",
    Release: "released",
    Cancel: "cancelled",
}


@dataclass
class Run:
    """One run of a task. `outcome` is running, succeeded, retried, dead, snoozed, released or cancelled; `again_in` seconds."""

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
    """One task, wherever it is. `due_in` is seconds by the kit's clock; 0 for all that wait for nothing."""

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
    """As one would write it."""
    return f"{task}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def enqueued(app: Stoker, status: TaskStatus, now: float) -> Enqueued:
    """What a test wants to know of a task. `now` is the kit's time in seconds."""
    due_in = (status.at or 0) / 1000 - now if status.state is TaskState.SCHEDULED else 0.0
    arguments = _arguments(app, status.task, bytes(status.payload))
    place = (status.id, status.queue, status.state, status.priority, status.attempts)
    return Enqueued(status.task, arguments, *place, max(0.0, due_in), status.failure)


class Witness(Reporter):
    """Counts and logs as every worker does, and writes down each run, in the order of their beginnings."""

    def __init__(self, tallies: TaskCollector, app: Stoker, runs: list[Run]) -> None:
        super().__init__(tallies, app.tasks)
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
                    run.result = self._app.tasks[run.task].decode_result(value)
                case Retry(delay, failure):
                    run.again_in, run.failure = delay, failure
                case Bury(failure):
                    run.failure = failure
                case Snooze(delay):
                    run.again_in = delay


def _arguments(app: Stoker, name: str, payload: bytes) -> Mapping[str, Any]:
    """Of the types that the task declares; as JSON has them where they do not fit, or the task is unknown."""
    task = app.tasks.get(name)
    try:
        return task.decode_arguments(payload) if task else msgspec.json.decode(payload)
    except Invalid:
        return dict(msgspec.json.decode(payload))
