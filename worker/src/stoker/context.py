"""What a running task may know of itself: ask for it by a parameter annotated `Context`."""

import logging
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Context:
    """One run of one task.

    `attempt` is 1 for the first run. `fence` grows with every delivery of the queue and sorts as text:
    keep the highest seen beside your own data, and refuse writes that carry a lower one.
    A run of a schedule knows its name and the moment that it stands for, in UTC; it may have started later.
    """

    id: str
    task: str
    queue: str
    attempt: int
    fence: str
    log: logging.LoggerAdapter[logging.Logger]
    schedule: str | None = None
    scheduled_for: datetime | None = None
