"""Worker of one partition: starts the deliveries that its turns fetch, runs them, and settles their outcomes."""

import asyncio
import logging
import random
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw

from stoker.app.app import Stoker, application_of
from stoker.client.waits import Waits, current_waits
from stoker.clock import Clock, milliseconds, system
from stoker.errors import Invalid, StokerError
from stoker.queue.broker import Broker
from stoker.queue.records import Delivery, Pulse
from stoker.queue.scripts import ScriptCall
from stoker.queue.settlements import Settlement
from stoker.rules.effects import Effect, after_success
from stoker.rules.message import Message, decode, digest
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
    settle,
)
from stoker.rules.workflow import Origin, OutboxEntry, linked_chains, load_chains, load_onward
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.worker.loop.announcer import Announcer
from stoker.worker.loop.executors import Executor
from stoker.worker.loop.minding import Minding
from stoker.worker.loop.slot_pool import PoolShare
from stoker.worker.loop.solitude import Solitude
from stoker.worker.loop.turns import Turns
from stoker.worker.run.observer import RunObserver
from stoker.worker.run.outcome import failure_of
from stoker.worker.run.progress import ProgressFlusher, current_progress
from stoker.worker.run.retries import retry_policy
from stoker.worker.system.aio import Begin, eager_start, lazy_start
from stoker.worker.system.garbage import SHORT_RUN, collector

CANCEL_AGAIN = 5.0
"""Seconds after which a run that has not ended is cancelled again: one cancellation may be lost, or caught by the task."""
ABANDON_AFTER = 6.0
"""Seconds after an abort until the worker leaves without runs that have not ended: they were cancelled twice."""
_FAILURES = (Raised, Fatal, RetryAsked)
_log = logging.getLogger("stoker.worker")


class Worker:
    """Runs the tasks of one partition until it is drained. Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        app: Stoker,
        settings: WorkerSettings,
        broker: Broker,
        metrics: WorkerMetrics,
        clock: Clock = system,
        observer: RunObserver | None = None,
        solitude: Solitude | None = None,
        share: PoolShare | None = None,
        threads: ThreadPoolExecutor | None = None,
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
        self._observer = observer or RunObserver(metrics.tasks, app.tasks)
        self._executor = Executor(app, settings, threads)
        self._turns = Turns(name, settings.concurrency, broker, metrics, self._start, lambda: self.busy, solitude, share)
        self._progress = ProgressFlusher(broker, metrics, clock)
        self._waits = Waits(settings.queue, settings.concurrency)
        # Both by fence: after a lost lease the same task may run here twice.
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopped: dict[str, Transition] = {}  # runs that the worker has cancelled, and what becomes of them
        self._begin: Begin | None = None
        self.announcer = Announcer(application, settings.template, broker)

    @property
    def to_relay(self) -> asyncio.Event:
        """Set when a settlement has filled the outbox: the relay has work."""
        return self._turns.to_relay

    @property
    def minding(self) -> Minding:
        """When this worker is to look for chores."""
        return self._turns.minding

    @property
    def busy(self) -> int:
        """Number of running tasks."""
        return len(self._running)

    @property
    def trouble(self) -> str | None:
        """Why no tasks are taken; None while they are."""
        return self._turns.trouble

    @property
    def recovering(self) -> bool:
        """Whether Redis does not answer, or does so only since a moment ago."""
        return self._turns.recovering

    def heartbeat_call(self) -> ScriptCall:
        """The script call that renews the leases of all held tasks. Called on the heartbeat's thread."""
        info = {
            "slots": self._settings.concurrency,
            "busy": self.busy,
            "waiting": self._waits.count,
            "draining": self._turns.shutdown.draining,
            "template": self.announcer.announcement().template,
        }
        return self._broker.heartbeat_call(self.name, msgspec.json.encode(info), self._turns.held.copy())

    def apply_heartbeat(self, answer: Pulse) -> None:
        """Cancel the runs of tasks whose lease is lost (no settlement of ours would count) or that were cancelled.

        Also begins minding, where the reply says so.
        """
        if answer.mind_in is not None:
            self._turns.minding.begin_in(answer.mind_in)
        for fence in answer.lost:
            if run := self._running.get(fence):
                _log.warning("lease lost: cancelling the run", extra={"task_id": self._turns.held.get(fence)})
                self._cancel(fence, run, Release())
            else:
                self._turns.give_up(fence, Release())
        for fence in answer.cancelled:
            if (run := self._running.get(fence)) and not isinstance(self._stopped.get(fence), Cancel):
                self._cancel(fence, run, Cancel())
            else:
                self._turns.give_up(fence, Cancel())

    @property
    def drained(self) -> bool:
        """Whether no tasks are taken, nothing runs, and Redis has all outcomes. Any thread may ask."""
        return not self._turns.shutdown.taking and self._turns.empty

    def quiet(self) -> None:
        """Take no more tasks, and stay."""
        _log.info("quiet: no more tasks are taken", extra={"running": self.busy})
        self._turns.quiet()

    def drain(self) -> None:
        """Take no more tasks, and end when the running ones have; abort after the drain timeout."""
        if not self._turns.shutdown.draining:
            _log.info("draining", extra={"running": self.busy, "timeout": self._settings.drain_timeout})
            asyncio.get_running_loop().call_later(self._settings.drain_timeout, self.abort)
            self._turns.drain()

    def abort(self) -> None:
        """Requeue the running tasks at once, no attempt charged, and end."""
        if not self._turns.shutdown.aborting:
            if self._running:
                _log.warning("aborting: running tasks are requeued", extra={"running": self.busy})
            self._turns.abort()
            self._cancel_all()
            asyncio.get_running_loop().call_later(ABANDON_AFTER, self._abandon)

    def _cancel_all(self) -> None:
        for fence, run in self._running.items():
            self._cancel(fence, run, Release())
        if self._running:
            asyncio.get_running_loop().call_later(CANCEL_AGAIN, self._cancel_all)

    def _abandon(self) -> None:
        """Release what still runs: it ignores its cancellation, and would keep its worker."""
        for fence, run in list(self._running.items()):
            task_id = run.get_name()
            _log.error("a task ignores its cancellation: released, leaving without it", extra={"task_id": task_id})
            self._finish(self._unfinished(task_id, fence))

    async def run(self) -> None:
        """Work until drained."""
        current_progress.set(self._progress)
        current_waits.set(self._waits)
        self._begin = eager_start(asyncio.get_running_loop())
        try:
            await self._turns.run()
        finally:
            await self.close()

    async def turn(self) -> int:
        """One turn, for the testing kit, which steps instead of calling `run`. Returns how many tasks it settled and took."""
        current_progress.set(self._progress)
        current_waits.set(self._waits)
        self._begin = lazy_start(asyncio.get_running_loop())
        return await self._turns.once()

    @property
    def back_in(self) -> float | None:
        """Seconds until the rate limit allows more tasks, as of the last `turn`."""
        return self._turns.back_in

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The runs, as asyncio tasks."""
        return list(self._running.values())

    @property
    def held(self) -> list[str]:
        """Ids of the tasks that are not settled yet."""
        return list(self._turns.held.values())

    async def close(self) -> None:
        """Close the executor: threads and child processes."""
        await self._executor.close()

    def _start(self, delivery: Delivery) -> None:
        assert self._begin  # noqa: S101 (`run` or `turn` has begun)
        run = self._begin(self._settled_run(delivery), delivery.id)
        if run.done():
            return
        self._running[delivery.fence] = run
        if self._turns.shutdown.aborting:  # fetched by a turn that was in flight
            self._cancel(delivery.fence, run, Release())

    def _cancel(self, fence: str, run: asyncio.Task[None], becomes: Transition) -> None:
        if isinstance(becomes, Cancel):
            self._stopped[fence] = becomes
        else:
            self._stopped.setdefault(fence, becomes)
        began = getcoroutinestate(cast(Coroutine[Any, Any, None], run.get_coro())) != CORO_CREATED
        if not began and not run.cancelling():  # it will never see the cancellation
            run.add_done_callback(lambda _: self._finish(self._unfinished(self._turns.held[fence], fence)))
        run.cancel()

    async def _settled_run(self, delivery: Delivery) -> None:
        try:
            settlement = await self._run(delivery)
        except asyncio.CancelledError:  # between its end and its settlement
            settlement = self._unfinished(delivery.id, delivery.fence)
        except BaseException as error:  # SystemExit too: it would end the worker, and the delivery would never be settled
            settlement = self._failed(delivery, error)
        self._finish(settlement)

    def _failed(self, delivery: Delivery, error: BaseException) -> Settlement:
        """A failure like any other, so that a task which always meets this bug ends."""
        with suppress(BaseException):  # of a log filter of the application
            _log.critical("a bug in the worker", extra={"task_id": delivery.id}, exc_info=error)
        outcome = Raised(failure_of(error))
        transition = settle(outcome, self._settings.retry, failures=delivery.failures, random=random.random)
        return Settlement(delivery.id, delivery.fence, transition)

    def _finish(self, settlement: Settlement) -> None:
        self.runs += 1
        self._running.pop(settlement.fence, None)
        self._stopped.pop(settlement.fence, None)
        self._turns.settle(settlement)

    def _unfinished(self, task_id: str, fence: str) -> Settlement:
        return Settlement(task_id, fence, self._stopped.get(fence) or Release())

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
                self._observer.started(message, delivery)
                outcome, effects = await self._outcome(delivery, message)
                if delivery.fence in self._progress.unsent:
                    await self._progress.flush_run(delivery)
                transition = self._settle(delivery, message, outcome)
        busy = max(0.0, self._clock() - started)
        self._observer.ended(message, delivery, transition, busy)
        if busy > SHORT_RUN:
            collector.look()
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
        onward = load_onward(message.onward)
        children = [*linked_chains(onward.on_success, message), *load_chains(outcome.children)]
        origin = Origin(milliseconds(self._clock), self._tracing.carrier() or message.trace)
        entry = OutboxEntry(digest(delivery.fence), origin, onward.steps, onward.member, Raw(outcome.value))
        try:
            locate = await self._broker.partitions.locator([onward.steps, *children])
        except StokerError:  # the worker that relays the outbox will find out
            locate = None
        return after_success(self._broker.keys.queue, entry, children, locate)

    def _interrupted(self, delivery: Delivery) -> Outcome:
        match self._stopped.get(delivery.fence):
            case Cancel():
                return Cancelled()
            case None:
                # Not by the worker: the task has cancelled itself, or another one all tasks. Charged, so that it ends.
                return Raised(Failure("CancelledError", "the run was cancelled by a task, not by the worker"))
            case _:
                return Interrupted()

    def _settle(self, delivery: Delivery, message: Message, outcome: Outcome) -> Transition:
        task = self._tasks.get(message.task)
        policy = retry_policy(self._settings.retry, task, message)
        return settle(
            outcome, policy, failures=delivery.failures, random=random.random, template=self.announcer.announcement().template
        )
