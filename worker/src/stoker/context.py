"""What a running task may know of itself: ask for it by a parameter annotated `Context`."""

import logging
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class Account(Protocol):
    """Where a run's news go."""

    def progress(self, done: float, total: float | None, note: str) -> None: ...
    def line(self, level: int, text: str) -> None: ...


class Told:
    """Something that was said and is on its way. Awaiting it waits for nothing."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


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
    account: Account | None = field(default=None, repr=False, compare=False)

    def progress(self, done: float, total: float | None = None, note: str = "") -> Told:
        """Say how far it is, for whoever looks: as often as you like and from any thread; it is sent at most twice a second.

        May be awaited, and need not be.
        """
        if self.account:
            self.account.progress(done, total, note)
        return Told()
