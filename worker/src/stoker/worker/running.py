"""What a run is told of itself, in the worker and in its children."""

import logging
from datetime import UTC, datetime

from stoker.context import Children, Context
from stoker.queue.broker import Delivery
from stoker.rules.message import Message
from stoker.telemetry.logs import TaskLog, task_fields
from stoker.worker.notes import telling

_log = logging.getLogger("stoker.task")


def context_of(delivery: Delivery, message: Message) -> Context:
    """The Context of this delivery's run."""
    notes = telling.get()
    account = notes.of(delivery) if notes else None
    log = TaskLog(_log, task_fields(message, delivery), account.line if account else None)
    moment = None if message.scheduled_for is None else datetime.fromtimestamp(message.scheduled_for / 1000, UTC)
    children = Children(message.id, message.created)
    run = (message.id, message.task, message.queue, delivery.attempt, delivery.fence)
    return Context(*run, log, message.schedule, moment, children, account)
