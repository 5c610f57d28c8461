"""RunObserver: counts and logs every run of a worker."""

import logging
from collections.abc import Container

from stoker.queue.records import Delivery
from stoker.rules.message import Message
from stoker.rules.settle import Bury, Cancel, Release, Retry, Snooze, Succeed, Transition, Unclaim
from stoker.rules.tally import OTHER
from stoker.telemetry.metrics import TaskCollector, TaskCounts
from stoker.worker.run.run_lines import RunLines, Unlogged

_log = logging.getLogger("stoker.worker")


class RunObserver:
    """Called at the start and the end of each run. Task names outside `known` are counted as `other`."""

    def __init__(self, collector: TaskCollector, known: Container[str], lines: RunLines | None = None) -> None:
        self._collector = collector
        self._slo = collector.slo
        self._known = known
        self._lines = lines or RunLines()
        self._unlogged = Unlogged(collector.queue.name, collector.counts)
        self._lines.join(self._unlogged.summary)

    def started(self, message: Message, delivery: Delivery) -> None:
        """A run begins."""
        counts = self._of(message)
        counts.started += 1
        waited = delivery.waited
        counts.wait.observe(waited)
        slo = self._slo
        slo.started += 1
        if waited <= slo.max_wait:
            slo.in_time += 1

    def ended(self, message: Message | None, delivery: Delivery, transition: Transition, seconds: float) -> None:
        """A run has ended; `transition` is what happens to the task."""
        counts = self._of(message)
        counts.duration.observe(seconds)
        level = count(counts, transition)
        lines = self._lines
        if not (lines.left if level <= logging.INFO else lines.failures) or not _log.isEnabledFor(level):
            return
        self._write(level, message, delivery, transition, seconds)
        if level <= logging.INFO:
            self._unlogged.logged(self._name(message), _WORDS[type(transition)])
            lines.wrote()

    def _write(self, level: int, message: Message | None, delivery: Delivery, transition: Transition, seconds: float) -> None:
        extra: dict[str, object] = {
            "task_id": delivery.id,
            "task": message.task if message else None,
            "queue": self._collector.queue.name,
            "attempt": delivery.attempt,
            "seconds": round(seconds, 6),
            "waited": round(delivery.waited, 6),
        }
        traceback = ""
        if isinstance(transition, Retry | Bury):
            extra["error"] = f"{transition.failure.type}: {transition.failure.message}"
            traceback = transition.failure.traceback
        if isinstance(transition, Retry | Snooze):
            extra["again_in"] = round(transition.delay, 3)
        if isinstance(transition, Snooze | Cancel) and transition.reason:
            extra["reason"] = transition.reason
        text = f"task {_WORDS[type(transition)]}"
        record = _log.makeRecord(_log.name, level, __file__, 0, text, (), None, "ended", extra)
        record.exc_text = traceback  # formatted in the process that ran it; every formatter writes it
        _log.handle(record)

    def _of(self, message: Message | None) -> TaskCounts:
        return self._collector.of(self._name(message))

    def _name(self, message: Message | None) -> str:
        return message.task if message and message.task in self._known else OTHER


_WORDS: dict[type[Transition], str] = {
    Succeed: "succeeded",
    Retry: "failed, will be retried",
    Bury: "dead",
    Snooze: "snoozed",
    Unclaim: "is unknown to this worker",
    Release: "released",
    Cancel: "cancelled",
}


def count(counts: TaskCounts, transition: Transition) -> int:
    """Count it, and return the level of its log line."""
    match transition:
        case Succeed():
            counts.succeeded += 1
            return logging.INFO
        case Retry():
            counts.failed += 1
            counts.retried += 1
            return logging.WARNING
        case Bury():
            counts.failed += 1
            counts.dead += 1
            return logging.ERROR
        case Snooze() | Unclaim():
            counts.snoozed += 1
            return logging.WARNING
        case Cancel():
            counts.cancelled += 1
            return logging.INFO
        case Release():
            counts.released += 1
            return logging.INFO
