"""The Context: what a running task can learn and do. Injected into a parameter annotated `Context`."""

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
from stoker.rules.workflow import (
    MAX_MEMBERS,
    MAX_WORKFLOW_BYTES,
    Steps,
    check_start,
    dump_chains,
    load_chains,
    number,
    root_of,
    task_steps,
)

EXACT = 1 << 53
"""Whole numbers below stay whole in JSON."""


class ProgressSink(Protocol):
    """Takes the progress and the log lines of one run."""

    def progress(self, done: float, total: float | None, note: str) -> None: ...
    def line(self, level: int, text: str) -> None: ...


class Sent:
    """An awaitable that is done: `await ctx.progress(...)` does not wait."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class Workflow(Protocol):
    """What can be enqueued: a prepared task, a chain, a group."""

    @property
    def _steps(self) -> Steps:
        """As they travel in envelopes."""
        ...

    @property
    def _own_id(self) -> str | None:
        """The id that the caller has chosen, of a single task."""
        ...


class Children:
    """What one run sends: enqueued by the script that records its success, or not at all. Any thread may add."""

    def __init__(self, task_id: str, created: int) -> None:
        self._parent = task_id, created
        self._chains: list[Steps] = []
        self._variables: list[contextvars.Context] = []
        self._numbers = count(1)
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._chains)

    def add(self, workflow: Workflow) -> str:
        """Add one. Returns the id of its first task. Raises Invalid for too many, or more than MAX_WORKFLOW_BYTES together."""
        if len(self._chains) >= MAX_MEMBERS:
            raise Invalid(f"a task may send at most {MAX_MEMBERS} others: let these send further ones")
        root = f"{root_of(*self._parent)}.c{next(self._numbers)}"
        steps = number(check_start(workflow._steps), root, first=workflow._own_id or root)
        tasks = list(task_steps([steps]))
        self._bytes += sum(len(bytes(task.message.payload)) for task in tasks)
        if self._bytes > MAX_WORKFLOW_BYTES:
            raise Invalid(f"what a task sends may have at most {MAX_WORKFLOW_BYTES} bytes: pass references instead")
        self._chains.append(steps)
        self._variables.append(contextvars.copy_context())
        return tasks[0].message.id

    def written(self) -> bytes:
        """All of it as JSON, for the worker."""
        return dump_chains(self._chains)

    def read(self, written: bytes) -> None:
        """Add what the same run has sent in a child process."""
        chains = load_chains(written)
        self._chains += chains
        self._variables += [contextvars.copy_context()] * len(chains)

    async def pass_through(
        self, layers: Callable[[Sequence[Steps], Sequence[contextvars.Context]], Awaitable[list[Steps]]]
    ) -> None:
        """Pass all of it through the middleware, each in the context in which it was sent."""
        self._chains = await layers(self._chains, self._variables)


class Run:
    """What the worker keeps with a run's Context: what it has sent, where its progress goes, and whether it is to end."""

    __slots__ = ("children", "over", "sink")

    def __init__(self, children: Children, sink: ProgressSink | None = None) -> None:
        self.children = children
        self.sink = sink
        self.over = Event()


@dataclass(frozen=True, slots=True)
class Context:
    """One run of one task.

    `attempt` is 1 for the first run. `fence` grows with every delivery of the queue and sorts as text: store the highest one
    beside your own data, and refuse writes that carry a lower one. `schedule` and `scheduled_for` (UTC) are the schedule of the
    run and the moment it stands for; it may have started later. `headers` are those of the enqueue. `deadline` is in seconds of
    `time.monotonic()`; see `time_left`. `max_retries`: how many failures are retried; `last_attempt`: the next one is not, so that
    the task would be dead (`retry(max_retries=...)` and the classes of a Retry may decide otherwise).
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
    max_retries: int = 0
    last_attempt: bool = False
    _run: Run = field(default_factory=lambda: Run(Children("", 0)), repr=False, compare=False)

    def progress(self, done: float, total: float | None = None, note: str = "") -> Sent:
        """Report progress, from any thread, as often as you like: it is sent at most twice a second.

        May be awaited, and need not be. Raises Invalid for numbers that are not finite.
        """
        if sink := self._run.sink:
            sink.progress(_amount(done), None if total is None else _amount(total), str(note))
        return Sent()

    def retry(self, delay: float | None = None, reason: str = "", *, max_retries: int | None = None) -> TryAgain:
        """Raises TryAgain: this attempt has failed, retry after `delay` seconds (None: as the retry policy says).

        Write `raise ctx.retry(...)`, so that readers and type checkers see that the run ends here; a forgotten `raise` changes
        nothing. When all retries (the policy's, or `max_retries`) are used up, the task becomes dead, with this reason.
        """
        raise TryAgain(delay, reason, max_retries=max_retries)

    def time_left(self) -> float:
        """Seconds until the soft timeout, or until the timeout where there is no soft one; below 0 when it has passed."""
        return self.deadline - time.monotonic()

    @property
    def cancelled(self) -> bool:
        """Whether the run is to end: its time is over, it was cancelled, or its worker has released it.

        For threads, which cannot be stopped: check it now and then, and return or raise. Where only the time is over, the outcome
        still counts.
        """
        return self._run.over.is_set() or self.time_left() <= 0

    def enqueue(self, workflow: Workflow) -> str:
        """Enqueue a prepared task, a chain or a group when this run succeeds, in the script that records its success.

        Returns the id of its first task. Where the run fails, is released or has lost its lease, nothing is enqueued: the run
        that succeeds sends its own, under the same ids. Middleware sees it before the run counts as succeeded; what it raises
        fails the run. Raises Invalid for what cannot be enqueued, or is too much.
        """
        return self._run.children.add(workflow)


def run_of(context: Context) -> Run:
    """What its worker keeps with it."""
    return context._run


def _amount(value: float) -> float:
    try:
        amount = float(value)  # those of numpy and the like, too
        if math.isfinite(amount):
            return value if isinstance(value, int) and abs(value) < EXACT else amount
    except (TypeError, ValueError, OverflowError):
        pass
    raise Invalid(f"bad progress {value!r}: use finite numbers")
