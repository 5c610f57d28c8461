"""Unknown tasks: names and versions that this worker does not declare, and for how long it has been handing them back.

The grace before an unknown task is buried counts from this worker's first encounter, not from the task's age: a task that was
delayed, snoozed or retried may be older than the whole grace when a worker first meets it in the middle of a rollout.
"""

from stoker.rules.message import Message

MAX_UNKNOWN = 1000


class UnknownTasks:
    """First encounters by task name and version. Beyond MAX_UNKNOWN of them, tasks count from their enqueue."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def unknown_for(self, message: Message, now: float) -> float:
        """Seconds since this worker first met the task's name and version; since its enqueue where that was later."""
        kind, enqueued = (message.task, message.version), message.created / 1000
        if kind not in self._since and len(self._since) < MAX_UNKNOWN:
            self._since[kind] = now
        return now - max(enqueued, self._since.get(kind, enqueued))
