"""The handle of an enqueued workflow: its result, the tasks it waits for now, and how to cancel it."""

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Generic

from msgspec.structs import replace

from stoker.app.application import Application
from stoker.app.prepared import Origin
from stoker.app.sync import from_sync
from stoker.app.task import R
from stoker.client.client import Client
from stoker.clock import milliseconds, system
from stoker.errors import NotFound, TaskFailed
from stoker.queue.reads.inspector import Cancellation
from stoker.queue.records import TaskStatus
from stoker.rules.message import Message
from stoker.rules.partitions import PartitionKey
from stoker.rules.states import TaskState
from stoker.rules.workflow import GroupStep, Steps, TaskStep, task_steps, tasks_and_placeholders

NAMED = 20
"""Unfinished members of a group that are looked at."""
ON_THE_WAY = 30.0
"""Seconds for which no task of a workflow may exist, between two of them. A worker relays within about one."""
CANCELLED_AT_ONCE = 50


class WorkflowHandle(Generic[R]):
    """An enqueued chain or group. `id` and `queue` are those of its last task, or of a group at its end.

    `duplicate`: its first task existed already, and this is the chain that it started.
    """

    def __init__(self, app: Application, steps: Steps, tasks: Mapping[str, Origin], *, duplicate: bool = False) -> None:
        last = steps[-1]
        self.id = last.message.id if isinstance(last, TaskStep) else last.id
        self.queue = last.message.queue if isinstance(last, TaskStep) else last.queue
        self.duplicate = duplicate
        self._app = app
        self._steps = steps
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<WorkflowHandle {self.id} in {self.queue}>"

    @property
    def _client(self) -> Client:
        return self._app.client

    @property
    def ids(self) -> list[str]:
        """The ids of all its tasks, in the order of the links."""
        return [step.message.id for step in task_steps([self._steps])]

    async def status(self) -> TaskStatus:
        """The status of its last task. Raises NotFound before that is enqueued, and once it is past its retention."""
        return await self._client.status(self.queue, self.id)

    async def pending(self) -> list[TaskStatus]:
        """The tasks that it waits for now: ready, scheduled, running, or dead until they are redriven.

        Of a group at most 20. Empty when all have succeeded, or are past their retention.
        """
        return [status for status in await self._standing(self._steps) if status.state is not TaskState.SUCCEEDED]

    async def result(self, timeout: float | None = None) -> R:
        """Wait for its result: the last task's, or the list of those of a group at its end.

        Raises TaskFailed when one of its tasks is dead, cancelled or past its retention; ResultPending after `timeout` seconds.
        """
        until = None if timeout is None else time.monotonic() + timeout
        value: R = await self._outcome(self._steps, until)
        return value

    async def cancel(self) -> Cancellation:
        """Cancel its tasks, also those not enqueued yet: at once, or with the worker's next heartbeat where one runs."""
        if not await self._standing(self._steps):
            return Cancellation.UNKNOWN
        answers: set[Cancellation] = set()
        await self._call_off(self._steps, answers)
        order = (Cancellation.REQUESTED, Cancellation.CANCELLED, Cancellation.OVER)
        return next((answer for answer in order if answer in answers), Cancellation.UNKNOWN)

    def status_sync(self) -> TaskStatus:
        """`status`, for code without an event loop."""
        return from_sync("await status()", self.status, self._app.close)

    def pending_sync(self) -> list[TaskStatus]:
        """`pending`, for code without an event loop."""
        return from_sync("await pending()", self.pending, self._app.close)

    def result_sync(self, timeout: float | None = None) -> R:
        """`result`, for code without an event loop."""
        return from_sync("await result(...)", lambda: self.result(timeout), self._app.close)

    def cancel_sync(self) -> Cancellation:
        """`cancel`, for code without an event loop."""
        return from_sync("await cancel()", self.cancel, self._app.close)

    async def _outcome(self, steps: Steps, until: float | None) -> Any:
        """The value of the last of these steps. A member of a group at the end is awaited with all steps before it."""
        last = steps[-1] if steps else GroupStep(())
        if isinstance(last, GroupStep):
            return [await self._outcome((*steps[:-1], *member), until) if member else [] for member in last.members]
        lost_since: list[float] = []

        async def not_there() -> None:
            await self._may_come(steps, lost_since)

        left = None if until is None else max(0.0, until - time.monotonic())
        status = await self._client.wait(last.message.queue, last.message.id, left, not_there)
        declaration = self._tasks[last.message.task].declaration
        return declaration.decode_result(bytes(status.result.value) if status.result else b"null")

    async def _may_come(self, steps: Steps, lost_since: list[float]) -> None:
        """Raises TaskFailed where the last task, which does not exist yet, will not be enqueued by itself."""
        standing = await self._standing(steps[:-1])
        for status in standing:
            if status.state in (TaskState.DEAD, TaskState.CANCELLED):
                why = f": {status.failure.type}: {status.failure.message}" if status.failure else ""
                rest = "the rest waits for its redrive" if status.state is TaskState.DEAD else "the rest will not come"
                raise TaskFailed(f"task {status.id} ({status.task}) of the workflow is {status.state}{why}; {rest}")
        if any(not status.state.final for status in standing):
            lost_since.clear()
        elif not lost_since:
            lost_since.append(time.monotonic())
        elif time.monotonic() - lost_since[0] > ON_THE_WAY:
            raise TaskFailed(f"task {steps[-1].message.id} is forgotten, or was never reached")  # type: ignore[union-attr]

    async def _standing(self, steps: Steps) -> list[TaskStatus]:
        """Its front: the last of its tasks that exists, or the members of a group that have not succeeded."""
        for at in range(len(steps) - 1, -1, -1):
            step = steps[at]
            if isinstance(step, TaskStep):
                if status := await self._look(step.message):
                    return [status]
                continue
            found = await self._members(step, is_last=at == len(steps) - 1)
            if found:
                return found
        return []

    async def _members(self, group: GroupStep, *, is_last: bool) -> list[TaskStatus]:
        join = await self._client.joins.progress(group.queue, group.id, NAMED)
        if join is None and not is_last:
            return []
        numbers: Iterable[int] = join.members if join else range(len(group.members))
        found: list[TaskStatus] = []
        for number in numbers:
            if len(found) >= NAMED:
                break
            found += await self._standing(group.members[number])
        return found

    async def _look(self, message: Message) -> TaskStatus | None:
        try:
            return await self._client.status(message.queue, message.id)
        except NotFound:
            return None

    async def _call_off(self, steps: Steps, answers: set[Cancellation]) -> None:
        """From the end to the beginning: a task that succeeds meanwhile finds its successor cancelled."""
        wanted = list(reversed(list(tasks_and_placeholders(steps))))
        for queue, run in groupby(wanted, key=lambda task: task[1].queue):
            tasks = list(run)
            for at in range(0, len(tasks), CANCELLED_AT_ONCE):
                answers |= await self._cancel(queue, tasks[at : at + CANCELLED_AT_ONCE])

    async def _cancel(self, queue: str, tasks: Sequence[tuple[PartitionKey, Message]]) -> set[Cancellation]:
        ids = [message.id for _, message in tasks]
        found = dict(zip(ids, await self._client.inspector.cancel(queue, ids), strict=True))
        created = milliseconds(system)
        coming = [(key, replace(task, created=created)) for key, task in tasks if found[task.id] is Cancellation.UNKNOWN]
        if coming:
            await self._client.joins.leave_tombstones(queue, coming)
            again = [message.id for _, message in coming]
            found |= zip(again, await self._client.inspector.cancel(queue, again), strict=True)
        return set(found.values())


class EmptyHandle(WorkflowHandle[R]):
    """The handle of groups without a task: nothing was enqueued, and the result is known. `id` and `queue` are empty."""

    def __init__(self, steps: Steps) -> None:
        self.id = self.queue = ""
        self.duplicate = False
        self._steps = steps

    async def status(self) -> TaskStatus:
        """Raises NotFound: it has no last task."""
        return self.status_sync()

    async def pending(self) -> list[TaskStatus]:
        """Empty: it waits for no task."""
        return []

    async def result(self, timeout: float | None = None) -> R:
        """An empty list, or lists of them for groups in groups."""
        return self.result_sync(timeout)

    async def cancel(self) -> Cancellation:
        """It has ended already."""
        return Cancellation.OVER

    def status_sync(self) -> TaskStatus:
        """See `status`."""
        raise NotFound("a group without members has no task")

    def pending_sync(self) -> list[TaskStatus]:
        """See `pending`."""
        return []

    def result_sync(self, timeout: float | None = None) -> R:
        """See `result`."""
        value: R = _nothing(self._steps)
        return value

    def cancel_sync(self) -> Cancellation:
        """See `cancel`."""
        return Cancellation.OVER


def _nothing(steps: Steps) -> Any:
    last = steps[-1] if steps else None
    return [_nothing(member) for member in last.members] if isinstance(last, GroupStep) else []
