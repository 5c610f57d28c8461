"""Solitude: a task on its last life has the worker process to itself. If that dies, it was this task: only the culprit is buried.

Such a task waits in Redis, not here, or it would be lost with whatever still runs here. Redis hands it only to a worker that holds
nothing. One that holds tasks when it is asked to clear takes no more until all of them have ended.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

ASK_AGAIN = 1.0
"""Seconds after which a worker that clears asks again: another may have taken the task."""
PATIENCE, REST = 6.0, 2.0
"""Seconds for which a worker clears at first, each time twice as long; and for which it takes tasks in between, so that a run
that waits for another task of the queue does not hold everything up.
"""


class Member(Protocol):
    """The capacity of one of the partitions that a process serves."""

    @property
    def idle(self) -> bool:
        """Whether it holds nothing, and no fetch of it is in flight."""
        ...


class Solitude:
    """Shared by the partitions of a process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._members: list[tuple[Member, Callable[[], None]]] = []
        self._for: Member | None = None  # who clears, or runs such a task
        self._asking = False  # it clears, and may fetch to find out whether another worker has taken the task
        self._alone = ""  # the fence of that task while it is held
        self._patience = PATIENCE
        self._until: float | None = None  # end of the patience, since a worker began to clear
        self._rests_until = 0.0
        self._asks_again: asyncio.TimerHandle | None = None

    def join(self, member: Member, look: Callable[[], None]) -> None:
        """`look` is called when the member may fetch again."""
        self._members.append((member, look))

    @property
    def wanted(self) -> bool:
        """Whether the process clears for a task on its last life, or runs one."""
        return self._for is not None

    @property
    def rests(self) -> bool:
        """Whether it cleared in vain for as long as it may, and takes tasks first."""
        return self._rests_until > 0 and _now() < self._rests_until and not self._idle

    def admits(self, member: Member) -> bool:
        """Whether this member may fetch."""
        return self._for is None or (self._for is member and not self._alone and (self._asking or self._idle))

    def exclusive(self, member: Member) -> bool:
        """Whether a fetch of this member may bring a task on its last life: nothing is held, and no other fetch is in flight."""
        return self._for is member and not self._alone and self._idle

    def clear(self, member: Member) -> None:
        """A task on its last life is next: no partition takes more until the process is idle."""
        if self._for not in (None, member) or self.rests:
            return
        now = _now()
        self._for, self._asking = member, False
        if self._until is None:
            self._until = now + self._patience
        if self._asks_again:
            self._asks_again.cancel()
        self._asks_again = asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_again)

    def run(self, member: Member, fence: str) -> None:
        """Such a task is here."""
        self._for, self._alone, self._asking = member, fence, False
        self._calm()

    def ended(self, fence: str) -> None:
        """If this was that task, its member asks for the next one of the kind before anything else."""
        if fence == self._alone:
            self._alone = ""

    def over(self, member: Member) -> None:
        """No such task is next for this member."""
        if self._for is member and not self._alone:
            self._calm()
            self._release()

    @property
    def _idle(self) -> bool:
        return all(member.idle for member, _ in self._members)

    def _calm(self) -> None:
        if self._asks_again:
            self._asks_again.cancel()
        self._asks_again, self._until, self._patience = None, None, PATIENCE

    def _ask_again(self) -> None:
        self._asks_again = None
        if self._until is not None and _now() >= self._until:
            self._patience *= 2
            self._until, self._rests_until = None, _now() + REST
            asyncio.get_running_loop().call_later(REST, self._look)
            self._release()
        else:
            # The others stay as they are: their waits would start again, and the process would never be idle.
            self._asking = True
            self._look()

    def _release(self) -> None:
        self._for, self._asking = None, False
        self._look()

    def _look(self) -> None:
        for _, look in self._members:
            look()


def _now() -> float:
    return asyncio.get_running_loop().time()
