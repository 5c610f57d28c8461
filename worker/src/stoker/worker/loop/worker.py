"""A worker: it starts what its turns bring, runs it, and hands back what became of it."""

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw

from stoker.app.app import Stoker, application_of
from stoker.clock import Clock, milliseconds, system
from stoker.errors import Invalid, StokerError
from stoker.queue.broker import Broker
from stoker.queue.records import Delivery, Pulse
from stoker.queue.scripts import ScriptCall
from stoker.queue.settlements import Settlement
from stoker.rules.effects import Effect, after_success
from stoker.rules.message import Message, decode, digest
from stoker.rules.retry import narrowed
from stoker.rules.settle import (
    Bury,
    Cancel,
    Cancelled,
    Expired,
    Failure,
    Fatal,
    Interrupted,
    Outcome,
    Raised,
    Release,
    RetryAsked,
    Returned,
    Transition,
    Unknown,
    settle,
)
from stoker.rules.workflow import Origin, OutboxEntry, load_chains, load_onward
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.executors import Executor
from stoker.worker.loop.turns import Turns
from stoker.worker.loop.unknown_tasks import UnknownTasks
from stoker.worker.run.outcome import failure_of
from stoker.worker.run.progress import Notes, telling
from stoker.worker.run.report import Reporter
from stoker.worker.system.aio import Begin, eagerly, later

ASK_AGAIN = 5.0
MOST_NAMES = 200
"""A worker of more tasks does not say which they are."""
_FAILURES = (Raised, Fatal, RetryAsked)
_log = logging.getLogger("stoker.worker")


class Worker:
    """Runs the tasks of one queue until `drain` has emptied it. Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        app: Stoker,
        settings: WorkerSettings,
        broker: Broker,
        metrics: WorkerMetrics,
        clock: Clock = system,
        report: Reporter | None = None,
    ) -> None:
        self.name = name
        self.runs = 0
        application = application_of(app)
        self._tasks = application.declarations
        self._settings = settings
        self._broker = broker
        self._metrics = metrics
        self._tracing = application.tracing
        self._clock = clock
        self._report = report or Reporter(metrics.tasks, app.tasks)
        self._executor = Executor(app, settings)
        self._turns = Turns(name, settings.concurrency, broker, metrics, self._start, lambda: self.busy)
        self._notes = Notes(broker, metrics, clock)
        self._jobs: dict[str, asyncio.Task[None]] = {}  # by fence: one id may be here twice, after a lost lease
        self._cancelled: set[str] = set()
        self._strangers = UnknownTasks()
        self._released = False
        self._begin: Begin | None = None

    @property
    def to_relay(self) -> asyncio.Event:
        """Set when something that this worker has settled may go on in another queue."""
        return self._turns.to_relay

    @property
    def busy(self) -> int:
        """Tasks that run now."""
        return len(self._jobs)

    @property
    def trouble(self) -> str | None:
        """Why it takes no tasks; None while it does."""
        return self._turns.trouble

    def heartbeat_call(self) -> ScriptCall:
        """What the heartbeat's thread sends: this worker lives and holds these."""
        known = sorted(self._tasks) if len(self._tasks) <= MOST_NAMES else None
        info = msgspec.json.encode(
            {"slots": self._settings.concurrency, "busy": self.busy, "draining": self._turns.leaving, "tasks": known}
        )
        return self._broker.heartbeat_call(self.name, info, self._turns.held.copy())

    def hear(self, answer: Pulse) -> None:
        """Give up what was lost (another worker has it, and nothing written here would count) and what was cancelled."""
        for fence in answer.lost:
            if job := self._jobs.get(fence):
                _log.warning("lease lost, giving the task up", extra={"task_id": self._turns.held.get(fence)})
                self._cancel(fence, job)
            else:
                self._turns.give_up(fence, Release())
        for fence in answer.cancelled:
            if (job := self._jobs.get(fence)) and fence not in self._cancelled:
                self._cancelled.add(fence)
                self._cancel(fence, job)
            else:
                self._turns.give_up(fence, Cancel())

    @property
    def empty(self) -> bool:
        """Whether nothing runs, and Redis has taken all outcomes. Safe to ask from another thread."""
        return self._turns.empty

    @property
    def resting(self) -> bool:
        """Whether no more tasks are taken."""
        return self._turns.resting

    def rest(self) -> None:
        """Take no more tasks, and stay."""
        _log.info("resting: no more tasks are taken", extra={"running": self.busy})
        self._turns.rest()

    def drain(self) -> None:
        """Take no more tasks and end when the running ones have; after the drain timeout, release them."""
        if not self._turns.leaving:
            _log.info("draining", extra={"running": self.busy, "timeout": self._settings.drain_timeout})
            asyncio.get_running_loop().call_later(self._settings.drain_timeout, self.release)
            self._turns.drain()

    def release(self) -> None:
        """Give the running tasks back at once, no attempt charged."""
        if not self._released:
            self._released = True
            if self._jobs:
                _log.warning("releasing the running tasks", extra={"running": self.busy})
            self._give_up()
            self._turns.hurry()

    def _give_up(self) -> None:
        # Again and again while anything runs: one cancellation may be lost, or be caught by the task.
        for fence, job in self._jobs.items():
            self._cancel(fence, job)
        if self._jobs:
            asyncio.get_running_loop().call_later(ASK_AGAIN, self._give_up)

    async def run(self) -> None:
        """Work until drained."""
        telling.set(self._notes)
        self._begin = eagerly(asyncio.get_running_loop())
        try:
            await self._turns.run()
        finally:
            await self.close()

    async def turn(self) -> int:
        """One turn, for whoever steps by hand instead of `run`. Returns how many tasks it settled and took."""
        telling.set(self._notes)
        self._begin = later(asyncio.get_running_loop())
        return await self._turns.once()

    @property
    def back_in(self) -> float | None:
        """In how many seconds there will be more to take, as the last `turn` said."""
        return self._turns.back_in

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """What runs now."""
        return list(self._jobs.values())

    @property
    def held(self) -> list[str]:
        """The ids of the tasks that are not settled yet."""
        return list(self._turns.held.values())

    async def close(self) -> None:
        """Run nothing more."""
        await self._executor.close()

    def _start(self, delivery: Delivery) -> None:
        assert self._begin  # noqa: S101 (`run` or `turn` has begun)
        job = self._begin(self._job(delivery), delivery.id)
        if job.done():
            return
        self._jobs[delivery.fence] = job
        if self._released:  # it came with a turn that was under way when we were told to leave
            self._cancel(delivery.fence, job)

    def _cancel(self, fence: str, job: asyncio.Task[None]) -> None:
        began = getcoroutinestate(cast(Coroutine[Any, Any, None], job.get_coro())) != CORO_CREATED
        if not began and not job.cancelling():  # it will never see this
            job.add_done_callback(lambda _: self._finish(self._given_up(self._turns.held[fence], fence)))
        job.cancel()

    async def _job(self, delivery: Delivery) -> None:
        try:
            settlement = await self._run(delivery)
        except asyncio.CancelledError:  # between its end and its settlement
            settlement = self._given_up(delivery.id, delivery.fence)
        except Exception as error:
            _log.critical("a bug in the worker", extra={"task_id": delivery.id}, exc_info=error)
            # Retried as any failure, and no oftener: a task that always meets the bug must come to an end.
            outcome = Raised(failure_of(error))
            transition = settle(outcome, self._settings.retry, failures=delivery.failures, random=random.random)
            settlement = Settlement(delivery.id, delivery.fence, transition)
        self._finish(settlement)

    def _finish(self, settlement: Settlement) -> None:
        self.runs += 1
        self._jobs.pop(settlement.fence, None)
        self._cancelled.discard(settlement.fence)
        self._turns.settle(settlement)

    def _given_up(self, task_id: str, fence: str) -> Settlement:
        return Settlement(task_id, fence, Cancel() if fence in self._cancelled else Release())

    async def _run(self, delivery: Delivery) -> Settlement:
        started = self._clock()
        message: Message | None = None
        transition: Transition
        effects: Sequence[Effect] = ()
        try:
            message = decode(delivery.envelope)
        except Invalid as error:
            transition = Bury(Failure("UnreadableEnvelope", str(error)))
        else:
            if message.expires is not None and delivery.taken >= message.expires:
                transition = self._settle(delivery, message, Expired())
            else:
                self._report.started(message, delivery)
                outcome, effects = await self._outcome(delivery, message)
                if delivery.fence in self._notes.waiting:
                    await self._notes.last_words(delivery)
                transition = self._settle(delivery, message, outcome)
        busy = max(0.0, self._clock() - started)
        self._report.ended(message, delivery, transition, busy)
        return Settlement(delivery.id, delivery.fence, transition, busy, effects)

    async def _outcome(self, delivery: Delivery, message: Message) -> tuple[Outcome, Sequence[Effect]]:
        effects: Sequence[Effect] = ()
        with self._tracing.processing(message.queue, message.task, delivery, message.trace) as span:
            try:
                outcome = await self._executor.run(delivery, message)
            except asyncio.CancelledError:
                outcome = self._interrupted(delivery)
            if isinstance(outcome, Returned) and (message.onward is not UNSET or outcome.children):
                try:
                    effects = await self._effects(delivery, message, outcome)
                except Invalid as error:
                    outcome = Fatal(Failure("UnreadableWorkflow", str(error)))
            if isinstance(outcome, _FAILURES):
                span.failed(outcome.failure.type, outcome.failure.message)
        return outcome, effects

    async def _effects(self, delivery: Delivery, message: Message, outcome: Returned) -> Sequence[Effect]:
        """What this success sets off. Called within the run's span, which becomes the parent of what follows."""
        onward, children = load_onward(message.onward), load_chains(outcome.children)
        origin = Origin(milliseconds(self._clock), self._tracing.carrier() or message.trace)
        entry = OutboxEntry(digest(delivery.fence), origin, onward.steps, onward.member, Raw(outcome.value))
        try:
            locate = await self._broker.partitions.locator([onward.steps, *children])
        except StokerError:  # the worker that relays the outbox will find out
            locate = None
        return after_success(self._broker.keys.queue, entry, children, locate)

    def _interrupted(self, delivery: Delivery) -> Outcome:
        if delivery.fence in self._cancelled:
            return Cancelled()
        task = asyncio.current_task()
        if task and task.cancelling():
            return Interrupted()
        # Nobody here asked for it, so it came from inside the task: a failure like any other.
        return Raised(Failure("CancelledError", "the task cancelled itself"))

    def _settle(self, delivery: Delivery, message: Message, outcome: Outcome) -> Transition:
        task = self._tasks.get(message.task)
        policy = narrowed(self._settings.retry, task.policy.retry if task else None)
        policy = narrowed(policy, message.max_retries if message.retry is None else message.retry)
        unknown_for = self._strangers.unknown_for(message, self._clock()) if isinstance(outcome, Unknown) else 0.0
        return settle(outcome, policy, failures=delivery.failures, unknown_for=unknown_for, random=random.random)
