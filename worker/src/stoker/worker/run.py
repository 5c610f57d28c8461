"""Fetch, run, settle: the loop of a worker.

One task of the event loop makes turns: in a single round trip a turn settles all that has ended since
the last and takes as many new tasks as there are free slots. While a turn is under way more tasks end,
so batches grow with the load by themselves and an idle worker settles at once.
"""

import asyncio
import logging
import random
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from stoker.clock import Clock, system
from stoker.errors import Invalid, StokerError
from stoker.queue.broker import Broker, Delivery, Pulse, Settlement, Turn
from stoker.queue.scripts import Call
from stoker.rules.message import Message, decode
from stoker.rules.retry import Retry, backoff
from stoker.rules.settle import Bury, Cancel, Failure, Hopeless, Interrupted, Outcome, Raised, Release, Stopped, Transition, settle
from stoker.settings import WorkerSettings
from stoker.task import Task
from stoker.telemetry.metrics import WorkerMetrics
from stoker.telemetry.tracing import Tracing
from stoker.worker.ending import end
from stoker.worker.executors import Executor, failure_of
from stoker.worker.report import Reporter

LONGEST_WAIT = 5.0
SHORTEST_WAIT = 0.001
FLUSH_LIMIT = 5.0
RECONNECT = Retry(initial_delay=0.1, multiplier=2, max_delay=5.0)
_log = logging.getLogger("stoker.worker")


class Worker:
    """Runs the tasks of one queue until `drain` has emptied it. Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        tasks: dict[str, Task[..., Any]],
        settings: WorkerSettings,
        broker: Broker,
        metrics: WorkerMetrics,
        tracing: Tracing,
        clock: Clock = system,
    ) -> None:
        self.name = name
        self._tasks = tasks
        self._settings = settings
        self._broker = broker
        self._metrics = metrics
        self._tracing = tracing
        self._clock = clock
        self._report = Reporter(metrics, tasks)
        self._executor = Executor(tasks, settings.task_timeout, settings.concurrency)
        self._jobs: dict[str, asyncio.Task[Settlement]] = {}  # by fence: one id may be here twice, after a lost lease
        self._held: dict[str, str] = {}  # fence -> id, until Redis has taken the settlement
        self._suspects: set[str] = set()
        self._cancelled: set[str] = set()
        self._ended: list[Settlement] = []
        self._stir = asyncio.Event()
        self._has_room = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._troubles = 0
        self._draining = False
        self._released = False

    @property
    def busy(self) -> int:
        """Tasks that run now."""
        return len(self._jobs)

    @property
    def trouble(self) -> str | None:
        """Why it takes no tasks; None while it does."""
        if self._draining:
            return "draining"
        return "Redis does not answer" if self._troubles else None

    def heartbeat_call(self) -> Call:
        """What the heartbeat's thread sends: this worker lives and holds these."""
        info = msgspec.json.encode({"slots": self._settings.concurrency, "busy": self.busy, "draining": self._draining})
        return self._broker.heartbeat_call(self.name, info, self._held.copy())

    def hear(self, answer: Pulse) -> None:
        """Give up what was lost (another worker has it, and nothing written here would count) and what was cancelled."""
        for fence in answer.lost:
            if job := self._jobs.get(fence):
                _log.warning("lease lost, giving the task up", extra={"task_id": self._held.get(fence)})
                job.cancel()
        for fence in answer.cancelled:
            if (job := self._jobs.get(fence)) and fence not in self._cancelled:
                self._cancelled.add(fence)
                job.cancel()

    def drain(self) -> None:
        """Take no more tasks and end when the running ones have; after the drain timeout, release them."""
        if not self._draining:
            self._draining = True
            _log.info("draining", extra={"running": self.busy, "timeout": self._settings.drain_timeout})
            asyncio.get_running_loop().call_later(self._settings.drain_timeout, self.release)
            self._stir.set()

    def release(self) -> None:
        """Give the running tasks back at once, no attempt charged."""
        self._draining = True
        if not self._released:
            self._released = True
            if self._jobs:
                _log.warning("releasing the running tasks", extra={"running": self.busy})
            self._give_up()

    def _give_up(self) -> None:
        # Again and again while anything runs: one cancellation may be lost, or be caught by the task.
        for job in self._jobs.values():
            job.cancel()
        if self._jobs:
            asyncio.get_running_loop().call_later(FLUSH_LIMIT, self._give_up)
        self._stir.set()

    async def run(self) -> None:
        """Work until drained."""
        waiting = asyncio.create_task(self._wake_when_work_comes())
        self._stir.set()
        try:
            while not self._draining:
                await self._turn_when_stirred()
            await self._stop_waiting(waiting)
            while self._jobs or self._ended:
                if not await self._turn_when_stirred() and self._released:
                    break
        finally:
            waiting.cancel()
            self._executor.close()

    async def _stop_waiting(self, waiting: asyncio.Task[None]) -> None:
        await end(waiting)
        # It may just have taken the only wake token, for work that is not ours any more.
        with suppress(StokerError):
            await self._broker.pass_on()

    async def _turn_when_stirred(self) -> bool:
        await self._stir.wait()
        self._stir.clear()
        return await self._turn()

    async def _turn(self) -> bool:
        """One round trip. Returns False when Redis did not answer; what was to be settled is kept."""
        settlements, self._ended = self._ended, []
        room = 0 if self._draining else self._settings.concurrency - len(self._jobs)
        holds_suspect = not self._suspects <= {settlement.fence for settlement in settlements}
        try:
            turn = await self._broker.turn(settlements, room, self.name, holds_suspect=holds_suspect)
        except StokerError as error:
            self._ended = settlements + self._ended
            await self._wait_out(error)
            self._stir.set()
            return False
        self._recover()
        self._take(turn, settlements, room)
        return True

    def _take(self, turn: Turn, settlements: list[Settlement], room: int) -> None:
        for settlement in settlements:
            self._held.pop(settlement.fence, None)
            self._suspects.discard(settlement.fence)
            self._cancelled.discard(settlement.fence)
        if turn.refused:
            self._metrics.stale.inc(len(turn.refused))
            _log.warning("refused: the lease had gone to another", extra={"task_ids": [s.id for s in turn.refused]})
        for delivery in turn.deliveries:
            self._start(delivery)
        self._metrics.slots(len(self._jobs))
        if turn.back_in is not None:
            self._look_again_in(turn.back_in)
        if room > len(turn.deliveries) and not self._draining:
            self._has_room.set()

    def _start(self, delivery: Delivery) -> None:
        job = asyncio.create_task(self._run(delivery))
        self._held[delivery.fence] = delivery.id
        if delivery.losses:
            self._suspects.add(delivery.fence)
        self._jobs[delivery.fence] = job
        job.add_done_callback(partial(self._finish, delivery))
        if self._released:  # it came with a turn that was under way when we were told to leave
            job.cancel()

    def _finish(self, delivery: Delivery, job: asyncio.Task[Settlement]) -> None:
        if job.cancelled():  # before its first step
            settlement = Settlement(delivery.id, delivery.fence, Cancel() if delivery.fence in self._cancelled else Release())
        elif error := job.exception():
            _log.critical("a bug in the worker", extra={"task_id": delivery.id}, exc_info=error)
            # Retried as any failure, and no oftener: a task that always meets the bug must come to an end.
            outcome = Raised(failure_of(error))
            transition = settle(outcome, self._settings.retry, failures=delivery.failures, age=0, random=random.random)
            settlement = Settlement(delivery.id, delivery.fence, transition)
        else:
            settlement = job.result()
        del self._jobs[delivery.fence]
        self._ended.append(settlement)
        self._stir.set()

    async def _run(self, delivery: Delivery) -> Settlement:
        started = self._clock()
        message: Message | None = None
        transition: Transition
        try:
            message = decode(delivery.envelope)
        except Invalid as error:
            transition = Bury(Failure("UnreadableEnvelope", str(error)))
        else:
            self._report.started(message, delivery)
            transition = self._settle(delivery, message, await self._outcome(delivery, message))
        busy = max(0.0, self._clock() - started)
        self._report.ended(message, delivery, transition, busy)
        return Settlement(delivery.id, delivery.fence, transition, busy)

    async def _outcome(self, delivery: Delivery, message: Message) -> Outcome:
        with self._tracing.processing(message.queue, message.task, delivery, message.trace) as span:
            try:
                outcome = await self._executor.run(delivery, message)
            except asyncio.CancelledError:
                outcome = self._interrupted(delivery)
            if isinstance(outcome, Raised | Hopeless):
                span.failed(outcome.failure.type, outcome.failure.message)
        return outcome

    def _interrupted(self, delivery: Delivery) -> Outcome:
        if delivery.fence in self._cancelled:
            return Stopped()
        task = asyncio.current_task()
        if task and task.cancelling():
            return Interrupted()
        # Nobody here asked for it, so it came from inside the task: a failure like any other.
        return Raised(Failure("CancelledError", "the task cancelled itself"))

    def _settle(self, delivery: Delivery, message: Message, outcome: Outcome) -> Transition:
        task = self._tasks.get(message.task)
        policy = (task.policy.retry if task else None) or self._settings.retry
        if message.max_retries is not None:
            policy = msgspec.structs.replace(policy, max_retries=message.max_retries)
        age = self._clock() - message.created / 1000
        return settle(outcome, policy, failures=delivery.failures, age=age, random=random.random)

    async def _wake_when_work_comes(self) -> None:
        """Block in Redis while there is room and nothing to do."""
        while True:
            await self._has_room.wait()
            self._has_room.clear()
            try:
                await self._broker.wait_for_work(LONGEST_WAIT)
            except StokerError as error:
                await self._wait_out(error)
            self._stir.set()

    def _look_again_in(self, seconds: float) -> None:
        # A clock of its own: the wait in Redis may have begun before anybody knew of this task.
        if self._alarm:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(max(seconds, SHORTEST_WAIT), self._stir.set)

    async def _wait_out(self, error: StokerError) -> None:
        self._troubles += 1
        if self._troubles == 1:
            _log.warning("Redis is in trouble: running tasks go on, no new ones are taken", extra={"error": str(error)})
        pause = backoff(RECONNECT, self._troubles, lambda: random.uniform(0.5, 1))
        await asyncio.sleep(min(pause, FLUSH_LIMIT) if self._released else pause)

    def _recover(self) -> None:
        if self._troubles:
            _log.info("Redis answers again", extra={"failed_calls": self._troubles})
            self._troubles = 0
