"""What a running task may know of itself: ask for it by a parameter annotated `Context`."""

import contextvars
import logging
import math
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from threading import Event
from typing import Protocol

from stoker.errors import Invalid, TryAgain
from stoker.rules.plan import MAX_MEMBERS, MAX_PLAN_BYTES, Chain, check_start, links_of, number, read_chains, root_of, write_chains

EXACT = 1 << 53
"""Whole numbers below are told as they are."""


class ProgressSink(Protocol):
    """Takes the progress and the log lines of one run."""

    def progress(self, done: float, total: float | None, note: str) -> None: ...
    def line(self, level: int, text: str) -> None: ...


class Sent:
    """Something that was said and is on its way. Awaiting it waits for nothing."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class Workflow(Protocol):
    """What can be enqueued: a prepared task, a chain, a group."""

    @property
    def steps(self) -> Chain:
        """As it travels."""
        ...

    @property
    def own_id(self) -> str | None:
        """The id that the caller decides, of one task alone."""
        ...


class Children:
    """What one run has sent. It is enqueued when the run succeeds, in the same step; otherwise it was never there.

    Any thread may add.
    """

    def __init__(self, task_id: str, created: int) -> None:
        self._parent = task_id, created
        self._chains: list[Chain] = []
        self._variables: list[contextvars.Context] = []
        self._numbers = count(1)
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._chains)

    def add(self, workflow: Workflow) -> str:
        """Keep it. Returns the id of its first task; raises Invalid for too many or too large ones."""
        if len(self._chains) >= MAX_MEMBERS:
            raise Invalid(f"a task may send at most {MAX_MEMBERS} others: let these send further ones")
        root = f"{root_of(*self._parent)}.c{next(self._numbers)}"
        steps = number(check_start(workflow.steps), root, first=workflow.own_id or root)
        links = list(links_of([steps]))
        self._bytes += sum(len(bytes(link.message.payload)) for link in links)
        if self._bytes > MAX_PLAN_BYTES:
            raise Invalid(f"what a task sends may have at most {MAX_PLAN_BYTES} bytes: pass references instead")
        self._chains.append(steps)
        self._variables.append(contextvars.copy_context())
        return links[0].message.id

    def written(self) -> bytes:
        """All of it, for the worker."""
        return write_chains(self._chains)

    def read(self, written: bytes) -> None:
        """What the same run has sent in a child process."""
        if written:
            chains = read_chains(written)
            self._chains += chains
            self._variables += [contextvars.copy_context()] * len(chains)

    async def pass_through(
        self, layers: Callable[[Sequence[Chain], Sequence[contextvars.Context]], Awaitable[list[Chain]]]
    ) -> None:
        """Have the middleware look at all of it, with the context variables of where each was sent."""
        self._chains = await layers(self._chains, self._variables)


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
    children: Children = field(repr=False, default_factory=lambda: Children("", 0))
    sink: ProgressSink | None = field(default=None, repr=False, compare=False)

    def progress(self, done: float, total: float | None = None, note: str = "") -> Sent:
        """Say how far it is, for whoever looks: as often as you like and from any thread; it is sent at most twice a second.

        May be awaited, and need not be. Raises Invalid for what is no finite number.
        """
        if self.sink:
            self.sink.progress(_amount(done), None if total is None else _amount(total), str(note))
        return Sent()

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

    def enqueue(self, workflow: Workflow) -> str:
        """Send a prepared task, a chain or a group when this run has succeeded, in the very step that records its success.

        Returns the id of its first task. Where the run fails, is given back or has lost its lease, nothing is sent: the run
        that counts sends its own, under the same ids. Middleware looks at it before the run counts as succeeded, and what it
        raises fails the run. Raises Invalid for what cannot be sent, or is too much.
        """
        return self.children.add(workflow)


def _amount(value: float) -> float:
    try:
        amount = float(value)  # those of numpy and the like, too
        if math.isfinite(amount):
            return value if isinstance(value, int) and abs(value) < EXACT else amount
    except (TypeError, ValueError, OverflowError):
        pass
    raise Invalid(f"bad progress {value!r}: use finite numbers")
