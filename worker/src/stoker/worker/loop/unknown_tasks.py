"""What a worker does not know, and since when it has been asked for it.

A task's own age would not do: one that was delayed, snoozed or retried may be older than the whole grace when a worker that does
not know it meets it for the first time, in the middle of a rollout.
"""

from stoker.rules.message import Message

MOST_STRANGERS = 1000


class UnknownTasks:
    """Tasks by name and version. Of more than a thousand kinds the later ones count from their enqueue."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] = {}

    def unknown_for(self, message: Message, now: float) -> float:
        """Seconds that this worker has left others to do what it does not know; of a newer task, since its enqueue."""
        kind, enqueued = (message.task, message.version), message.created / 1000
        if kind not in self._since and len(self._since) < MOST_STRANGERS:
            self._since[kind] = now
        return now - max(enqueued, self._since.get(kind, enqueued))
