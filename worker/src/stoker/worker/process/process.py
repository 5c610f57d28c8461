"""A worker process from start to exit: connections, signals, heartbeat, probes, upkeep, and the loop in the middle."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count

from prometheus_client import CollectorRegistry

from stoker.app.app import Stoker, application_of
from stoker.errors import Invalid, RedisUnavailable, StokerError
from stoker.queue.health import check_layout, check_server
from stoker.queue.inbox import Inbox
from stoker.queue.keys import Keys
from stoker.queue.partitions import Partitions
from stoker.queue.schedules import Schedules
from stoker.queue.workflows.outbox import Outbox
from stoker.redis.client import RedisClient
from stoker.redis.connect import ThreadClient, connect
from stoker.redis.url import without_password
from stoker.rules import names
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.version import VERSION
from stoker.worker.loop import maintenance
from stoker.worker.loop.heartbeat import Heartbeat
from stoker.worker.loop.partitions import Crew
from stoker.worker.loop.watchdog import Watchdog
from stoker.worker.process.lifespan import Lifespan
from stoker.worker.process.shutdown import end_now
from stoker.worker.process.status_page import WorkerPage
from stoker.worker.system.aio import end
from stoker.worker.system.health import HealthServer
from stoker.worker.system.memory import resident

BEATS_PER_LEASE = 3
GOODBYE_LIMIT = 2.0
LOOK_AGAIN = 1.0
BLOCKED_FOR = 2.0
"""Seconds of a blocked event loop, after which a second signal does not wait for it."""
LAST_LOOK = 3.0
"""Seconds within which a group looks at a member that is about to start anew."""
_log = logging.getLogger("stoker.worker")


async def work(app: Stoker, settings: WorkerSettings) -> bool:
    """Run a worker until it is told to leave: SIGTERM or SIGINT drains it, a second one releases its tasks at once.

    True when it has grown beyond its memory limit, and another is to take its place. Waits for a Redis that is away; raises
    RedisRefused for one that would lose tasks, Invalid for a port it cannot have or a limit that is too small.
    """
    _check_memory(settings.max_memory)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry, settings.queue, settings.concurrency)
    redis = connect(settings.redis_url)
    crew = Crew(process_name(settings), app, settings, redis, metrics)
    watch = Watchdog()
    loop = asyncio.get_running_loop()
    heartbeat = Heartbeat(
        ThreadClient(settings.redis_url), settings.lease.duration / BEATS_PER_LEASE, watch, crew.workers, loop.call_soon_threadsafe
    )
    lifespan = Lifespan(app, lost=crew.give_back)
    starting = loop.create_task(_start(redis, settings, lifespan))

    page = WorkerPage(crew, settings.drain_timeout, registry, watch, lifespan, starting)
    with (
        HealthServer(settings.host, settings.port, page, inherited=settings.listen_fd) as health,
        _signals(crew, starting, watch),
    ):
        _log.info(
            "worker started",
            extra={
                "worker": crew.name,
                "version": VERSION,
                "queue": settings.queue,
                "concurrency": settings.concurrency,
                "tasks": sorted(app.tasks),
                "redis": without_password(settings.redis_url),
                "port": health.port,
            },
        )
        loops = [asyncio.create_task(watch.run(metrics))]
        try:
            await asyncio.wait([starting])
            if not starting.cancelled():  # or it was told to leave before all was there
                crew.muster(starting.result())
                for broker, worker in zip(crew.brokers, crew.workers, strict=True):
                    inbox, outbox = Inbox(redis, broker.keys), Outbox(redis, broker.keys)
                    chores = (
                        *(maintenance.promote(broker), maintenance.reap(broker, metrics), maintenance.sweep(broker)),
                        *(maintenance.take_in(inbox), maintenance.relay(outbox, worker.to_relay)),
                    )
                    loops += [asyncio.create_task(chore) for chore in chores]
                schedules = Schedules(redis, Keys(settings.namespace, settings.queue))
                declared = [each.definition for each in application_of(app).schedules.values() if each.queue == settings.queue]
                loops += [asyncio.create_task(maintenance.start_runs(schedules))]
                loops += [asyncio.create_task(maintenance.declare(schedules, f"code:{app.name}", declared))]
                if settings.max_memory:
                    loops.append(asyncio.create_task(maintenance.keep_small(crew, settings.max_memory)))
                heartbeat.start()
            await lifespan.beside(crew.run())
            if crew.recycling and settings.listen_fd is not None:
                await page.read_once_more(LAST_LOOK)
        finally:
            await end(*loops, starting)
            await asyncio.to_thread(heartbeat.stop)
            await _say_goodbye(crew)
            await lifespan.stop()
            await app.close()
            await redis.aclose()
            application_of(app).tracing.close()
    _log.info("worker stopped", extra={"worker": crew.name, "recycling": crew.recycling})
    lifespan.check()
    return crew.recycling


def _check_memory(limit: int) -> None:
    if 0 < limit < (own := resident()):
        raise Invalid(f"--max-memory: the application takes {own >> 20} MiB before its first task, the limit is {limit >> 20} MiB")


def process_name(settings: WorkerSettings) -> str:
    """A name that no other process has, now or later: its leases are told apart by it."""
    host = settings.name or os.environ.get("POD_NAME") or socket.gethostname()
    return names.process_name(host, os.getpid(), os.urandom(3))


async def _start(redis: RedisClient, settings: WorkerSettings, lifespan: Lifespan) -> list[str]:
    """The places of the queue, once there is a Redis, and all that the application wants beside it."""
    places = await _places(redis, settings)
    await lifespan.start()
    return places


async def _places(redis: RedisClient, settings: WorkerSettings) -> list[str]:
    """The places of the queue, as many as the settings say and those it had before, once Redis answers, is fit for tasks,
    and holds a queue that this version understands.
    """
    partitions = Partitions(redis, settings.namespace)
    waiting = False
    while True:
        try:
            await check_server(redis)
            await check_layout(redis, Keys(settings.namespace, settings.queue))
            return await partitions.register(settings.queue, settings.partitions)
        except RedisUnavailable as error:
            if not waiting:
                _log.warning("waiting for Redis", extra={"error": str(error)})
            waiting = True
        await asyncio.sleep(LOOK_AGAIN)


@contextlib.contextmanager
def _signals(crew: Crew, starting: asyncio.Task[list[str]], watch: Watchdog) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    ending: list[asyncio.Task[None]] = []  # the loop itself would forget them

    def leave() -> None:
        ending.append(loop.create_task(end(starting)))
        if crew.busy and not crew.told_to_leave:
            _log.info("told to leave when the running tasks have ended; told again, it gives them back at once")
        crew.leave()

    def leave_alone() -> None:
        if not crew.told_to_leave:  # it comes once for each thread of a parent that was killed
            leave()

    handlers = {signal.SIGTERM: leave, signal.SIGINT: leave}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        handlers[signal.SIGHUP] = leave_alone
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _beside(watch))
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _beside(watch: Watchdog) -> Callable[..., None]:
    """What happens at a signal between two lines of Python of whatever blocks the loop, which hears of it only afterwards."""
    told = count(1)

    def hear(*_: object) -> None:
        if watch.silence <= BLOCKED_FOR:
            return
        if next(told) > 1:
            _log.critical("told to leave again while a task blocks the event loop: ending at once, its tasks run elsewhere")
            end_now(1)
        _log.warning("told to leave while a task blocks the event loop: draining when it lets go; once more to end at once")

    return hear


async def _say_goodbye(crew: Crew) -> None:
    # Only a courtesy: without it the worker is forgotten when its lease ends.
    with suppress(StokerError, TimeoutError):
        async with asyncio.timeout(GOODBYE_LIMIT):
            for broker in crew.brokers:
                await broker.leave(crew.name)
