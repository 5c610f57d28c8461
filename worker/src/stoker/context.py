"""What a running task may know of itself: ask for it by a parameter annotated `Context`."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from stoker.errors import TryAgain


@dataclass(frozen=True, slots=True)
class Context:
    """One run of one task.

    `attempt` is 1 for the first run. `fence` grows with every delivery of the queue and sorts as text:
    keep the highest seen beside your own data, and refuse writes that carry a lower one.
    A run of a schedule knows its name and the moment that it stands for, in UTC; it may have started later.
    `headers` are those of the enqueue; `deadline` is a moment of `time.monotonic()`, see `time_left`.
    """

    id: str
    task: str
    queue: str
    attempt: int
    fence: str
    log: logging.LoggerAdapter[logging.Logger]
    schedule: str | None = None
    scheduled_for: datetime | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    deadline: float = math.inf
    _over: Event = field(default_factory=Event, repr=False, compare=False)

    def retry(self, delay: float | None = None, reason: str = "", *, max_retries: int | None = None) -> TryAgain:
        """To be raised: this attempt has failed, run me again after `delay` seconds (None: as the retry policy has it).

        When all retries are used up (the policy's, or `max_retries`) the task is buried, with the reason.
        """
        return TryAgain(delay, reason, max_retries=max_retries)

    def time_left(self) -> float:
        """Seconds until the soft timeout, or the timeout where there is no soft one; below 0 when it has passed."""
        return self.deadline - time.monotonic()

    @property
    def cancelled(self) -> bool:
        """Whether the run is to end: its time is over, somebody cancelled it, or its worker has given it up.

        For a thread, which nobody can stop: ask it now and then, and return or raise.
        The outcome still counts where only the time is over.
        """
        return self._over.is_set() or self.time_left() <= 0

    def give_up(self) -> None:
        """The worker's word to a thread that it cannot stop."""
        self._over.set()
