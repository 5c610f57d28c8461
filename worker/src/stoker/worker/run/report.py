"""What a worker says of every run: one count, one log line, in one place."""

import logging
from collections.abc import Container

from stoker.queue.records import Delivery
from stoker.rules.message import Message
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Succeed, Transition
from stoker.telemetry.metrics import OTHER, Tally, TaskCollector

_log = logging.getLogger("stoker.worker")


class Reporter:
    """Counts and logs the runs of one worker. Task names that it does not know are counted as `other`."""

    def __init__(self, tallies: TaskCollector, known: Container[str]) -> None:
        self._tallies = tallies
        self._known = known

    def started(self, message: Message, delivery: Delivery) -> None:
        """A run begins."""
        tally = self._of(message)
        tally.started += 1
        tally.wait.observe(delivery.waited)

    def ended(self, message: Message | None, delivery: Delivery, transition: Transition, seconds: float) -> None:
        """A run has ended, and this becomes of the task."""
        tally = self._of(message)
        tally.duration.observe(seconds)
        level = count(tally, transition)
        if not _log.isEnabledFor(level):
            return
        extra: dict[str, object] = {
            "task_id": delivery.id,
            "task": message.task if message else None,
            "attempt": delivery.attempt,
            "seconds": round(seconds, 6),
        }
        if isinstance(transition, Retry | Bury):
            extra["error"] = f"{transition.failure.type}: {transition.failure.message}"
        if isinstance(transition, Retry | Snooze):
            extra["again_in"] = round(transition.delay, 3)
        if isinstance(transition, Snooze | Cancel) and transition.reason:
            extra["reason"] = transition.reason
        _log.log(level, "task %s", _VERBS[type(transition)], extra=extra)

    def _of(self, message: Message | None) -> Tally:
        return self._tallies.of(message.task if message and message.task in self._known else OTHER)


_VERBS: dict[type[Transition], str] = {
    Succeed: "succeeded",
    Retry: "failed, to be retried",
    Bury: "dead",
    Snooze: "snoozed",
    Release: "released",
    Cancel: "cancelled",
}


def count(tally: Tally, transition: Transition) -> int:
    """Count it under its name. Returns the level that its log line deserves."""
    match transition:
        case Succeed():
            tally.succeeded += 1
            return logging.DEBUG
        case Retry():
            tally.failed += 1
            tally.retried += 1
            return logging.WARNING
        case Bury():
            tally.failed += 1
            tally.dead += 1
            return logging.ERROR
        case Snooze():
            tally.snoozed += 1
            return logging.WARNING
        case Cancel():
            tally.cancelled += 1
            return logging.INFO
        case Release():
            return logging.INFO
