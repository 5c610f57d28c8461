"""A worker process from start to exit: connections, signals, heartbeat, probes, upkeep, and the loop in the middle."""

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry

from stoker.app import Stoker
from stoker.errors import RedisUnavailable, StokerError
from stoker.queue.broker import Broker
from stoker.queue.connection import RedisClient, ThreadClient, connect, without_password
from stoker.queue.health import check_server
from stoker.queue.inbox import Inbox
from stoker.queue.keys import Keys
from stoker.queue.outbox import Outbox
from stoker.settings import WorkerSettings
from stoker.telemetry.metrics import WorkerMetrics
from stoker.version import VERSION
from stoker.worker import upkeep
from stoker.worker.ending import end
from stoker.worker.health import HealthServer
from stoker.worker.run import Worker

BEATS_PER_LEASE = 3
GOODBYE_LIMIT = 2.0
LOOK_AGAIN = 1.0
_log = logging.getLogger("stoker.worker")


async def work(app: Stoker, settings: WorkerSettings) -> None:
    """Run a worker until it is told to leave: SIGTERM or SIGINT drains it, a second one releases its tasks at once.

    Waits for a Redis that is away; raises RedisRefused for one that would lose tasks, Invalid for a port it cannot have.
    """
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry, settings.queue, settings.concurrency)
    redis = connect(settings.redis_url)
    broker = Broker(redis, Keys(settings.namespace, settings.queue), settings.lease, settings.retention, settings.rate_limit)
    worker = Worker(process_name(settings), app.tasks, settings, broker, metrics, app.tracing)
    watch = upkeep.LoopWatch()
    loop = asyncio.get_running_loop()
    heartbeat = upkeep.Heartbeat(
        ThreadClient(settings.redis_url),
        settings.lease.duration / BEATS_PER_LEASE,
        watch,
        worker.heartbeat_call,
        lambda answer: loop.call_soon_threadsafe(worker.hear, answer),
    )

    checked = loop.create_task(_fit(redis))

    def live() -> str | None:
        return f"the event loop is stuck for {watch.silence:.0f} s" if watch.stuck else None

    def ready() -> str | None:
        return worker.trouble if checked.done() else "waiting for Redis"

    with (
        HealthServer(settings.host, settings.port, registry, live=live, ready=ready) as health,
        _signals(worker, checked),
    ):
        _log.info(
            "worker started",
            extra={
                "worker": worker.name,
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
            if await _passes(checked):
                inbox, outbox = Inbox(redis, broker.keys), Outbox(redis, broker.keys)
                chores = (
                    *(upkeep.promote(broker), upkeep.reap(broker, metrics), upkeep.sweep(broker)),
                    *(upkeep.take_in(inbox), upkeep.relay(outbox, worker.to_relay)),
                )
                loops += [asyncio.create_task(chore) for chore in chores]
                await _announce(broker)
                heartbeat.start()
            await worker.run()
        finally:
            await end(*loops, checked)
            await asyncio.to_thread(heartbeat.stop)
            await _say_goodbye(broker, worker.name)
            await app.close()
            await redis.aclose()
            app.tracing.close()
    _log.info("worker stopped", extra={"worker": worker.name})


def process_name(settings: WorkerSettings) -> str:
    """A name that no other process has, now or later: its leases are told apart by it."""
    host = settings.name or os.environ.get("POD_NAME") or socket.gethostname()
    return f"{re.sub(r'[^A-Za-z0-9.-]', '-', host)}-{os.getpid()}-{os.urandom(3).hex()}"


async def _fit(redis: RedisClient) -> None:
    """Ends when Redis has answered and is fit for tasks."""
    waiting = False
    while True:
        try:
            return await check_server(redis)
        except RedisUnavailable as error:
            if not waiting:
                _log.warning("waiting for Redis", extra={"error": str(error)})
            waiting = True
        await asyncio.sleep(LOOK_AGAIN)


async def _passes(checked: asyncio.Task[None]) -> bool:
    """False when the worker was told to leave before Redis ever answered."""
    await asyncio.wait([checked])
    return not checked.cancelled() and checked.result() is None


@contextlib.contextmanager
def _signals(worker: Worker, checked: asyncio.Task[None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    asked = 0
    ending: list[asyncio.Task[None]] = []  # the loop itself would forget them

    def leave() -> None:
        nonlocal asked
        asked += 1
        ending.append(loop.create_task(end(checked)))
        if asked == 1:
            worker.drain()
        else:
            worker.release()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _announce(broker: Broker) -> None:
    # Only for those who list queues; whoever enqueues does it too.
    with suppress(StokerError):
        await broker.register()


async def _say_goodbye(broker: Broker, name: str) -> None:
    # Only a courtesy: without it the worker is forgotten when its lease ends.
    with suppress(StokerError, TimeoutError):
        async with asyncio.timeout(GOODBYE_LIMIT):
            await broker.leave(name)
