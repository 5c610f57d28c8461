"""What a run is told of itself, in the worker and in its children."""

import logging
import math
import time
from datetime import UTC, datetime

from stoker.context import Children, Context
from stoker.queue.broker import Delivery
from stoker.rules.message import Message
from stoker.telemetry.logs import TaskLog, task_fields
from stoker.worker.notes import telling

_log = logging.getLogger("stoker.task")


def context_of(delivery: Delivery, message: Message, limit: float | None) -> Context:
    """The Context of this delivery's run, which begins now and is to end within `limit` seconds."""
    notes = telling.get()
    account = notes.of(delivery) if notes else None
    log = TaskLog(_log, task_fields(message, delivery), account.line if account else None)
    moment = None if message.scheduled_for is None else datetime.fromtimestamp(message.scheduled_for / 1000, UTC)
    return Context(
        id=message.id,
        task=message.task,
        queue=message.queue,
        attempt=delivery.attempt,
        fence=delivery.fence,
        log=log,
        schedule=message.schedule,
        scheduled_for=moment,
        children=Children(message.id, message.created),
        headers=message.headers,
        account=account,
        deadline=math.inf if limit is None else time.monotonic() + limit,
    )
