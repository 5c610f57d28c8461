"""What a run is told of itself, in the worker and in its children."""

import logging

from stoker.context import Children, Context
from stoker.queue.broker import Delivery
from stoker.rules.message import Message
from stoker.telemetry.logs import TaskLog, task_fields

_log = logging.getLogger("stoker.task")


def context_of(delivery: Delivery, message: Message) -> Context:
    """The Context of this delivery's run."""
    log = TaskLog(_log, task_fields(message, delivery))
    return Context(
        message.id, message.task, message.queue, delivery.attempt, delivery.fence, log, Children(message.id, message.created)
    )
