"""A queue, its pods and a scaler, simulated event by event: the same arrivals give the same result. No clock, no I/O.

Pods start after `startup` seconds, serve `slots` tasks each, first in, first out. A pod that is taken away takes no more tasks; if
it is not empty after `grace` seconds, its tasks are killed and run again.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from math import inf
from typing import Any, NamedTuple, Protocol

from msgspec import Struct


class Arrival(NamedTuple):
    """A task: when it is enqueued (seconds), how long it runs, and when it is due if it was scheduled for later."""

    at: float
    seconds: float
    due: float | None = None


class Setup(Struct, frozen=True):
    """The cluster. Times in seconds. `outages`: when the queue cannot be read; `quota`: the most pods that start."""

    slots: int = 16
    startup: float = 10.0
    grace: float = 30.0
    max_replicas: int = 20
    quota: float = inf
    outages: Sequence[tuple[float, float]] = ()


class Reading(Struct, frozen=True):
    """What a scaler sees. Counters grow for ever; `due` tasks fall due within the look-ahead that the scaler asked for.

    `replicas` are requested; of these `starting` are not ready yet. `starts`: seconds that each pod took, oldest first.
    """

    now: float
    ready: int
    running: int
    due: int
    oldest_wait: float
    enqueued: int
    finished: int
    busy_seconds: float
    replicas: int
    starting: int
    starts: Sequence[float]


class Scaler(Protocol):
    """A controller under test. `interval`: seconds between two looks. `look_ahead`: seconds. `empties_pods`: takes idle pods first,
    and waits for those that are busy."""

    interval: float
    empties_pods: bool

    @property
    def look_ahead(self) -> float: ...

    def decide(self, reading: Reading | None) -> int | None:
        """The number of replicas to request; None for no change. `reading` is None while the queue cannot be read."""
        ...


class Result(Struct, frozen=True):
    """What came of it. `waits`: seconds from due to first start, or to the end for a task that never started. `writes`: changes of
    the number of replicas. `course`: that number from each moment on."""

    waits: Sequence[float]
    pod_seconds: float
    killed: int
    writes: int
    course: Sequence[tuple[float, int]]

    def misses(self, max_wait: float) -> int:
        """Tasks that waited longer than `max_wait` seconds."""
        return sum(wait > max_wait for wait in self.waits)


class _Task:
    __slots__ = ("due", "seconds", "started")

    def __init__(self, due: float, seconds: float) -> None:
        self.due, self.seconds, self.started = due, seconds, False


class _Pod:
    __slots__ = ("gone", "leaving", "ready", "running", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.ready = self.leaving = self.gone = False
        self.running: dict[_Task, float] = {}  # task -> when it started


def simulate(arrivals: Sequence[Arrival], scaler: Scaler, setup: Setup, seconds: float, replicas: int = 0) -> Result:
    """Run the workload for `seconds` with this scaler, from `replicas` pods that are ready."""
    return _Simulation(arrivals, scaler, setup, seconds).run(replicas)


class _Simulation:
    def __init__(self, arrivals: Sequence[Arrival], scaler: Scaler, setup: Setup, seconds: float) -> None:
        self._arrivals, self._scaler, self._setup, self._seconds = arrivals, scaler, setup, seconds
        self._now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._queue: deque[_Task] = deque()
        self._later: list[float] = []  # heap of the moments at which scheduled tasks fall due
        self._pods: list[_Pod] = []  # requested, and not asked to leave
        self._free: deque[_Pod] = deque()  # an entry for each free slot, longest free first; those of pods that leave are skipped
        self._waits: list[float] = []
        self._starts: deque[float] = deque(maxlen=20)
        self._enqueued = self._finished = self._running = self._starting = self._killed = self._writes = 0
        self._busy_seconds = self._pod_seconds = 0.0
        self._course: list[tuple[float, int]] = []

    def run(self, replicas: int) -> Result:
        for arrival in self._arrivals:
            self._at(arrival.at, self._enqueue, arrival)
        for _ in range(replicas):
            self._starting += 1
            self._pods.append(pod := _Pod(0.0))
            self._get_ready(pod)
        self._course.append((0.0, replicas))
        self._at(0.0, self._look)
        while self._events[0][0] <= self._seconds:  # the next look is always there
            self._now, _, do, arguments = heapq.heappop(self._events)
            do(*arguments)
        self._pod_seconds += sum(self._seconds - pod.since for pod in self._pods)
        never = [self._seconds - task.due for task in self._queue if not task.started]
        return Result([*self._waits, *never], self._pod_seconds, self._killed, self._writes, self._course)

    def _at(self, moment: float, do: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (moment, next(self._order), do, arguments))

    def _enqueue(self, arrival: Arrival) -> None:
        self._enqueued += 1
        if arrival.due is not None and arrival.due > self._now:
            heapq.heappush(self._later, arrival.due)
            self._at(arrival.due, self._fall_due, arrival.seconds)
        else:
            self._wait(_Task(self._now, arrival.seconds))

    def _fall_due(self, seconds: float) -> None:
        heapq.heappop(self._later)
        self._wait(_Task(self._now, seconds))

    def _wait(self, task: _Task) -> None:
        self._queue.append(task)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._queue and self._free:
            pod = self._free.popleft()
            if pod.leaving:
                continue
            task = self._queue.popleft()
            if not task.started:
                task.started = True
                self._waits.append(self._now - task.due)
            pod.running[task] = self._now
            self._running += 1
            self._at(self._now + task.seconds, self._finish, pod, task)

    def _finish(self, pod: _Pod, task: _Task) -> None:
        if (began := pod.running.pop(task, None)) is None:
            return  # it was killed
        self._running -= 1
        self._finished += 1
        self._busy_seconds += self._now - began
        if pod.leaving:
            if not pod.running:
                self._go(pod)
        else:
            self._free.append(pod)
            self._dispatch()

    def _get_ready(self, pod: _Pod) -> None:
        if pod.leaving:
            return
        pod.ready = True
        self._starting -= 1
        self._starts.append(self._now - pod.since)
        self._free.extend([pod] * self._setup.slots)
        self._dispatch()

    def _look(self) -> None:
        self._at(self._now + self._scaler.interval, self._look)
        wanted = self._scaler.decide(self._reading())
        if wanted is None:
            return
        change = max(0, min(wanted, self._setup.max_replicas)) - len(self._pods)
        if change:
            self._writes += 1
            self._start(change) if change > 0 else self._stop(-change)
            self._course.append((self._now, len(self._pods)))

    def _reading(self) -> Reading | None:
        if any(begin <= self._now < end for begin, end in self._setup.outages):
            return None
        horizon = self._now + self._scaler.look_ahead
        return Reading(
            self._now,
            len(self._queue),
            self._running,
            sum(due <= horizon for due in self._later),
            self._now - self._queue[0].due if self._queue else 0.0,
            self._enqueued,
            self._finished,
            self._busy_seconds,
            len(self._pods),
            self._starting,
            tuple(self._starts),
        )

    def _start(self, pods: int) -> None:
        for _ in range(pods):
            self._starting += 1
            self._pods.append(pod := _Pod(self._now))
            if len(self._pods) <= self._setup.quota:
                self._at(self._now + self._setup.startup, self._get_ready, pod)

    def _stop(self, pods: int) -> None:
        """Pods that are not ready first, as a ReplicaSet does; then the emptiest, or those started last."""
        newest = reversed(self._pods)
        ranked = sorted(newest, key=lambda pod: (pod.ready, len(pod.running) if self._scaler.empties_pods else 0))
        for pod in ranked[:pods]:
            self._pods.remove(pod)
            pod.leaving = True
            if not pod.ready:
                self._starting -= 1
            if not pod.running:
                self._go(pod)
            elif not self._scaler.empties_pods:
                self._at(self._now + self._setup.grace, self._kill, pod)

    def _kill(self, pod: _Pod) -> None:
        if pod.gone:
            return
        for task in pod.running:
            self._killed += 1
            self._running -= 1
            self._queue.appendleft(task)
        pod.running.clear()
        self._go(pod)
        self._dispatch()

    def _go(self, pod: _Pod) -> None:
        pod.gone = True
        self._pod_seconds += self._now - pod.since
