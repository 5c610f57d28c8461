"""A worker process from start to exit: connections, signals, heartbeat, probes, chores, and the loop in the middle."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import NoReturn

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from stoker.app.app import Stoker, application_of
from stoker.errors import Invalid, RedisRefused, RedisUnavailable, StokerError
from stoker.queue.catalogue import Catalogue
from stoker.queue.health import check_layout, check_server
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.schedules import Schedules
from stoker.redis.client import RedisClient
from stoker.redis.connect import ThreadClient, connect
from stoker.redis.failures import login_refused
from stoker.redis.url import shown_address
from stoker.rules import names
from stoker.rules.identity import QueueId
from stoker.rules.shares import QueueWeight, without_tasks
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import ProcessMetrics, WorkerMetrics
from stoker.telemetry.own_lines import OwnLines
from stoker.version import VERSION
from stoker.worker.loop import chores
from stoker.worker.loop.heartbeat import Heartbeat
from stoker.worker.loop.lock_watch import LockWatch
from stoker.worker.loop.partition_group import PartitionGroup, ServedQueue
from stoker.worker.loop.slot_pool import SlotPool
from stoker.worker.loop.tally_flusher import TallyFlusher
from stoker.worker.loop.watchdog import Watchdog
from stoker.worker.process.burst import drain_when_empty
from stoker.worker.process.exit import exit_now
from stoker.worker.process.lifespan import CANCEL_TIMEOUT, Lifespan
from stoker.worker.process.status_page import LoadingPage, WorkerPage
from stoker.worker.run.observer import RunObserver
from stoker.worker.run.run_lines import RunLines
from stoker.worker.system.aio import cancel_all, handle_here_alone, hidden
from stoker.worker.system.first_process import shell_before, warning
from stoker.worker.system.garbage import collector
from stoker.worker.system.memory import resident

BEATS_PER_LEASE = 3
LONGEST_BEAT = 10.0
"""Longest interval in seconds between two heartbeats: shorter than a leap of Redis' clock is doubted (`queue/lua/_prelude.lua`)."""
FORGET_TIMEOUT = 2.0
CONNECT_INTERVAL = 1.0
LOGIN_PATIENCE = 30.0
"""Seconds, counted from when Redis is back, in which a refused login is tried again."""
ANNOUNCE_INTERVAL = 5.0
"""Seconds between two announcements of the queue and its partitions."""
BLOCKED_FOR = 2.0
"""Seconds of a blocked event loop, after which a second signal does not wait for it."""
LAST_SCRAPE = 3.0
"""Seconds that a process which is to be replaced waits for its group to read its metrics."""
_log = logging.getLogger("stoker.worker")


async def work(app: Stoker, settings: WorkerSettings, status: LoadingPage, own_lines: OwnLines | None = None) -> bool:
    """Run a worker until SIGTERM or SIGINT: the first drains it, a second aborts it. Closes `status` at its end. `own_lines` keeps
    the log against the application.

    Returns True when it has outgrown its memory limit and is to be replaced. Waits for a Redis that is away; raises RedisRefused
    for one that would lose tasks, Invalid for a memory limit that is too small.
    """
    _check_memory(settings.max_memory)
    registry = CollectorRegistry()
    metrics = ProcessMetrics(registry, settings.concurrency)
    redis = connect(settings.redis_url)
    lines = RunLines(settings.log_tasks)
    queues = served_queues(app, settings, metrics, registry, lines)
    pool = SlotPool(settings.concurrency, strict=settings.strict) if len(queues) > 1 else None
    group = PartitionGroup(status.name, app, redis, queues, pool)
    tallies = [_tallies(redis, queue, group) for queue in queues]
    watchdog = Watchdog()
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat(
        ThreadClient(settings.redis_url),
        min(settings.lease.duration / BEATS_PER_LEASE, LONGEST_BEAT),
        watchdog,
        group.workers,
        loop.call_soon_threadsafe,
    )
    lock_watch = LockWatch(application_of(app).declarations.values(), settings.lease.duration)
    lifespan = Lifespan(app, lost=group.abort)
    starting = hidden(loop.create_task(_start(redis, queues, lifespan)))

    page = WorkerPage(group, settings.drain_timeout, registry, watchdog, lifespan, starting)
    with contextlib.closing(status), _signals(group, starting, watchdog):
        status.replace(page)
        _log_start(app, settings, group, status.port)
        loops = [hidden(loop.create_task(watchdog.run(metrics.lag.set)))]
        try:
            await asyncio.wait([starting])
            if own_lines:
                loops.append(hidden(loop.create_task(own_lines.keep())))
            if not starting.cancelled():  # by a signal
                group.open(starting.result())
                loops += [hidden(loop.create_task(chores.repeat(chore))) for chore in _chores(group, app, settings, redis, tallies)]
                loops.append(hidden(loop.create_task(_keep_announced(group, redis, settings.namespace))))
                loops.append(hidden(loop.create_task(collector.collect_when_idle(lambda: group.runs, lambda: group.busy))))
                if settings.burst:
                    loops.append(hidden(loop.create_task(drain_when_empty(group, redis))))
                heartbeat.start()
                lock_watch.start()
            await lifespan.beside(group.run())
            if group.recycling and settings.listen_fd is not None:
                await page.read_once_more(LAST_SCRAPE)
        finally:
            await cancel_all(*loops, starting, within=CANCEL_TIMEOUT)
            await asyncio.to_thread(heartbeat.stop)
            lock_watch.stop()
            lines.close()
            await _forget(group, tallies)
            await lifespan.stop()
            await app.close()
            await redis.aclose()
            application_of(app).tracing.close()
    _log.info("worker stopped", extra={"worker": group.name, "recycling": group.recycling})
    lifespan.check()
    return group.recycling


def _log_start(app: Stoker, settings: WorkerSettings, group: PartitionGroup, port: int) -> None:
    names = [queue.name for queue in group.queues]
    extra = {
        "worker": group.name,
        "version": VERSION,
        "namespace": settings.namespace,
        "queue": ", ".join(names),
        "concurrency": settings.concurrency,
        "tasks": sorted(app.tasks),
        "redis": shown_address(settings.redis_url),
        "port": port,
    }
    _log.info("worker started", extra=extra)
    if settings.listen_fd is None and (shell := shell_before()):
        _log.warning(warning(shell))
    if wrong := without_tasks(names, _queues_of_tasks(app)):
        _log.warning(wrong, extra={"worker": group.name})


def served_queues(
    app: Stoker, settings: WorkerSettings, metrics: ProcessMetrics, registry: CollectorRegistry, lines: RunLines
) -> list[ServedQueue]:
    """The queues of the settings; where these name none, those of the application's tasks."""
    named = settings.queues or tuple(QueueWeight(name) for name in ([settings.queue] if settings.queue else queues_of(app)))
    served = []
    for name, weight in ((each.name, each.weight) for each in named):
        own = WorkerMetrics(registry, QueueId(settings.namespace, name), settings.concurrency, metrics)
        observer = RunObserver(own.tasks, app.tasks, lines)
        served.append(ServedQueue(replace(settings, queue=name), own, observer, weight))
    return served


def queues_of(app: Stoker) -> list[str]:
    """The queues of an application's tasks, by name; `default` where it has none."""
    return sorted({queue for _, queue in _queues_of_tasks(app)}) or ["default"]


def _queues_of_tasks(app: Stoker) -> list[tuple[str, str]]:
    return [(name, each.policy.queue) for name, each in application_of(app).declarations.items()]


def _tallies(redis: RedisClient, queue: ServedQueue, group: PartitionGroup) -> TallyFlusher:
    keys = Keys(queue.settings.namespace, queue.name)
    return TallyFlusher(redis, keys, group.name, queue.metrics.tasks, lambda: group.version)


def _chores(
    group: PartitionGroup, app: Stoker, settings: WorkerSettings, redis: RedisClient, tallies: Sequence[TallyFlusher]
) -> Sequence[chores.Chore]:
    """Those of the partitions, of the queues, and of this process."""
    schedules = application_of(app).schedules.values()
    of_queues = [chores.flush_tallies(each) for each in tallies]
    for queue in group.queues:
        declared = [each.definition for each in schedules if each.queue == queue.name]
        keys = Keys(settings.namespace, queue.name)
        of_queues.append(chores.declare(Schedules(redis, keys), f"code:{app.name}", declared))
    of_process = [chores.forget_idle(Catalogue(redis, settings.namespace))]
    if settings.max_memory:
        of_process.append(chores.limit_memory(group, settings.max_memory))
    if settings.max_tasks:
        of_process.append(chores.limit_runs(group, settings.max_tasks))
    return [*group.chores, *of_queues, *of_process]


def _check_memory(limit: int) -> None:
    if 0 < limit < (own := resident()):
        raise Invalid(f"--max-memory: the application takes {own >> 20} MiB before its first task, the limit is {limit >> 20} MiB")


def process_name(settings: WorkerSettings) -> str:
    """A name that no other process has or will have: leases carry it."""
    host = settings.name or os.environ.get("POD_NAME") or socket.gethostname()
    return names.process_name(host, os.getpid(), os.urandom(3))


async def _start(redis: RedisClient, queues: Sequence[ServedQueue], lifespan: Lifespan) -> list[list[str]]:
    """Wait for Redis and enter the lifespan. Returns the partitions of each queue."""
    partitions = [await _partitions(redis, queue.settings) for queue in queues]
    await lifespan.start()
    return partitions


async def _partitions(redis: RedisClient, settings: WorkerSettings) -> list[str]:
    """The partitions of the queue: those of the settings and those it had before. Waits until Redis answers.

    Raises RedisRefused for a server that is not fit for tasks, or holds a layout that this version does not understand.
    """
    partitions = Partitions(redis, settings.namespace)
    waiting, patience = False, 0.0
    while True:
        try:
            await check_server(redis)
            await check_layout(redis, Keys(settings.namespace, settings.queue))
            return await partitions.register(settings.queue, settings.partitions)
        except RedisUnavailable as error:
            if not waiting:
                _log.warning("waiting for Redis", extra={"error": str(error)})
            waiting, patience = True, LOGIN_PATIENCE
        except RedisRefused as error:
            # A Redis that has just come back may have lost its users: the operator makes them again.
            if not login_refused(error) or (patience := patience - CONNECT_INTERVAL) < 0:
                raise
            _log.warning("waiting for this worker's user in Redis", extra={"error": str(error)})
        await asyncio.sleep(CONNECT_INTERVAL)


async def _keep_announced(group: PartitionGroup, redis: RedisClient, namespace: str) -> NoReturn:
    """Announce the queues again and again, one worker for all: Redis may have been full at the start, and may be emptied."""
    announced = Partitions(redis, namespace)
    while True:
        await asyncio.sleep(ANNOUNCE_INTERVAL)
        for queue in group.queues:
            if group.minds(queue.name):
                with suppress(StokerError):
                    await announced.register(queue.name, group.partitions_of(queue.name))


@contextlib.contextmanager
def _signals(group: PartitionGroup, starting: asyncio.Task[list[list[str]]], watchdog: Watchdog) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    ending: list[asyncio.Task[None]] = []  # the loop itself would forget them

    def drain_or_abort() -> None:
        ending.append(hidden(loop.create_task(cancel_all(starting))))
        if group.draining:
            group.abort()
            return
        if group.busy:
            _log.info("Draining. Press Ctrl-C again to requeue running tasks now.")
        group.drain()

    def drain_once() -> None:
        if not group.draining:  # SIGHUP comes once for each thread of a parent that was killed
            drain_or_abort()

    handlers = {signal.SIGTERM: drain_or_abort, signal.SIGINT: drain_or_abort}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        handlers[signal.SIGHUP] = drain_once
    blocked = _while_blocked(watchdog)
    for number, handler in handlers.items():
        before = signal.getsignal(number)
        loop.add_signal_handler(number, handler)
        handle_here_alone(number, _nothing if number == signal.SIGHUP else blocked, before)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _nothing(*_: object) -> None:
    """For a signal that the event loop alone handles."""


def _while_blocked(watchdog: Watchdog) -> Callable[..., None]:
    """A handler that Python calls even while a task blocks the event loop, which gets to know of the signal only afterwards."""
    signals = count(1)

    def handle(*_: object) -> None:
        if watchdog.silence <= BLOCKED_FOR:
            return
        if next(signals) > 1:
            _log.critical("second signal while a task blocks the event loop: exiting now, its tasks run elsewhere")
            exit_now(1)
        _log.warning("a task blocks the event loop: draining when it returns. Press Ctrl-C again to exit now.")

    return handle


async def _forget(group: PartitionGroup, tallies: Sequence[TallyFlusher]) -> None:
    # Optional: without it Redis forgets the worker when its lease ends, and the last counts are lost.
    with suppress(StokerError, TimeoutError):
        async with asyncio.timeout(FORGET_TIMEOUT):
            for partition in group.partitions:
                await partition.broker.forget_worker(group.name)
            if group.partitions:
                for each in tallies:
                    await each.flush()
