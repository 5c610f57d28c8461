"""`stoker-operator`: wires the loops together. Everything that runs is started here, and ends together."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable

import kopf
from kopf._core.engines.peering import Identity

from stoker.errors import StokerError
from stoker.telemetry import logs
from stoker_operator import handlers, metrics
from stoker_operator.health import Health
from stoker_operator.kube import Kube, connect
from stoker_operator.readings import Readings
from stoker_operator.reclaim import Reclaimer
from stoker_operator.reconcile import Reconciler
from stoker_operator.reporter import Reporter
from stoker_operator.roster import Roster
from stoker_operator.scaler import Autoscaler
from stoker_operator.server import application, serving
from stoker_operator.settings import OperatorSettings, read
from stoker_operator.workqueue import WorkQueue

log = logging.getLogger("stoker_operator")
FIRST_LIST_RETRY = 2.0


def main() -> None:
    """The command."""
    settings = read(sys.argv[1:], os.environ)
    logs.configure(settings.log_format, settings.log_level)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        asyncio.run(run(settings))
    except StokerError as error:
        log.error("%s", error)
        sys.exit(1)


async def run(settings: OperatorSettings) -> None:
    """Serve until SIGTERM or SIGINT, or until a part of it breaks."""
    kube = await connect()
    try:
        await _serve(settings, kube)
    finally:
        await kube.close()


async def _serve(settings: OperatorSettings, kube: Kube) -> None:
    roster, queue = Roster(), WorkQueue()
    reporter = Reporter(kube, settings.identity)
    readings = Readings(settings.namespace, settings.redis_timeout)
    reclaimer = Reclaimer(roster, readings)
    reconciler = Reconciler(kube, roster, queue, settings, reporter)
    autoscaler = Autoscaler(kube, roster, queue, readings, reporter)
    health = Health({"autoscaler": 30 + 5 * settings.interval, "resync": 120 + 3 * settings.resync})
    pages = application(health, metrics.registry(roster))
    async with serving(pages, settings.host, settings.port), asyncio.TaskGroup() as group:
        loops = [
            group.create_task(health.watch_lag()),
            group.create_task(reconciler.run()),
            group.create_task(reclaimer.run()),
            group.create_task(autoscaler.run(settings.interval, lambda: health.finished("autoscaler"))),
        ]
        log.info("operator started", extra={"namespaces": ",".join(settings.watch_namespaces) or "all"})
        # kopf looks once for the resource it is to watch, so it must be there: list it first.
        await _until_listed(reconciler, health)
        loops.append(group.create_task(_resync(reconciler, settings.resync, lambda: health.finished("resync"))))
        health.ready = True
        await _watch(settings, queue, reclaimer)
        log.info("operator stops")
        for loop in loops:
            loop.cancel()


async def _until_listed(reconciler: Reconciler, health: Health) -> None:
    while True:
        try:
            await reconciler.resync()
        except StokerError as error:
            log.warning("TaskQueues cannot be listed yet: %s", error)
        else:
            return
        finally:
            health.finished("resync")
        await asyncio.sleep(FIRST_LIST_RETRY)


async def _resync(reconciler: Reconciler, interval: float, finished: Callable[[], None]) -> None:
    """The net below the watches: an event that was missed, or a Secret that changed, is found here."""
    while True:
        await asyncio.sleep(interval)
        try:
            await reconciler.resync()
        except StokerError as error:
            log.warning("TaskQueues cannot be listed: %s", error)
        finished()


async def _watch(settings: OperatorSettings, queue: WorkQueue, reclaimer: Reclaimer) -> None:
    """kopf, until a signal ends it. It takes the process' signals for itself."""
    await kopf.operator(
        registry=handlers.registry(queue, reclaimer),
        # Otherwise kopf asks who the user is, and dies where a container's uid has no name.
        identity=Identity(settings.identity),
        settings=handlers.settings(),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
    )


if __name__ == "__main__":
    main()
