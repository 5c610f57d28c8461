"""The command `stoker-operator`: builds the loops, starts them all, and stops them together."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator
from functools import partial
from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from stoker.errors import StokerError
from stoker.telemetry import logs
from stoker_operator import metrics
from stoker_operator.cluster_access import connect
from stoker_operator.credentials.credentials import Credentials
from stoker_operator.credentials.redis_users import RedisUsers
from stoker_operator.election.elector import Elector
from stoker_operator.election.lease import Timing
from stoker_operator.health import Health
from stoker_operator.http_server import application, serving
from stoker_operator.kube import Kube, KubernetesRefused
from stoker_operator.queues.autoscaler import ROUND_SECONDS, Autoscaler
from stoker_operator.queues.names import NamesLoop
from stoker_operator.queues.reclaimer import Reclaimer
from stoker_operator.queues.redis_pool import RedisPool
from stoker_operator.reconcile.config_poller import ConfigPoller
from stoker_operator.reconcile.deletion import Deletions
from stoker_operator.reconcile.listing import Listing
from stoker_operator.reconcile.namespaces import Namespaces
from stoker_operator.reconcile.queue_claims import QueueClaims
from stoker_operator.reconcile.reconciler import PASS_SECONDS, Reconciler
from stoker_operator.reconcile.resync import Resync
from stoker_operator.reconcile.uninstall import uninstall
from stoker_operator.report.reporter import Reporter
from stoker_operator.settings import OperatorSettings, read
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.witness import Witness
from stoker_operator.state.write_guard import WriteGuard
from stoker_operator.watch import handlers
from stoker_operator.watch.supervisor import Supervisor
from stoker_operator.work_queue import WorkQueue

log = logging.getLogger("stoker_operator")
FIRST_LIST_RETRY = 2.0
"""Seconds."""


def main() -> None:
    """Entry point."""
    arguments = sys.argv[1:]
    leaving = arguments[:1] == ["uninstall"]
    settings = read(arguments[leaving:], os.environ)
    # The API server takes JSON of 10,000 levels. Up to Python 3.11 this is the limit of the decoder too, also of kopf's.
    sys.setrecursionlimit(20_000)
    logs.configure(settings.log_format, settings.log_level)
    logging.getLogger("kopf").setLevel(max(logging.WARNING, logging.getLogger().level))
    try:
        with asyncio.Runner(loop_factory=partial(NamesLoop, allowed=settings.allowed_redis)) as runner:
            runner.run(leave(settings) if leaving else run(settings))
    except* StokerError as errors:
        for error in _each(errors):
            log.error("%s", error)
        sys.exit(1)


def _each(errors: BaseExceptionGroup[StokerError]) -> Iterator[BaseException]:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _each(error)
        else:
            yield error


async def run(settings: OperatorSettings) -> None:
    """Run until SIGTERM or SIGINT, or until a loop fails. Raises StokerError without a cluster to connect to."""
    guard, store, health = WriteGuard(), QueueStore(), Health({})
    async with _connected(guard) as kube, _connected(WriteGuard()) as for_lease:
        # A connection apart: neither a pause that the API server asks for nor the guard must keep the Lease from being renewed.
        elector = _elector(for_lease, settings, guard, health) if settings.lease else None
        endpoints = application(health, metrics.registry(store), lambda: elector.role if elector else "no election")
        async with serving(endpoints, settings.host, settings.port), asyncio.TaskGroup() as group:
            lag = group.create_task(health.watch_lag())
            if elector is None:
                metrics.LEADER.set(1)
                await _work(settings, kube, guard, store, health)
            elif await _elected(elector, settings, health):
                try:
                    await _work(settings, kube, guard, store, health, elector.hold())
                finally:
                    await elector.release()
            lag.cancel()


@contextlib.asynccontextmanager
async def _connected(guard: WriteGuard) -> AsyncIterator[Kube]:
    kube = await connect(guard)
    try:
        yield kube
    finally:
        await kube.close()


async def leave(settings: OperatorSettings) -> None:
    """The command `uninstall`. Raises StokerError with what is left to do."""
    async with _connected(WriteGuard()) as kube:
        left = await uninstall(kube, settings.installation_name, settings.watch_namespaces)
    if left:
        raise StokerError("finalizers are left, which keep TaskQueues from being deleted: " + "; ".join(left))


def _elector(kube: Kube, settings: OperatorSettings, guard: WriteGuard, health: Health) -> Elector:
    # A container that was restarted has the pod's name of the one before, which may still have requests on their way.
    identity = f"{settings.identity}_{secrets.token_hex(4)}"
    timing = Timing.of(settings.lease_duration)
    return Elector(kube, guard, settings.namespace, settings.lease, identity, timing, lambda: health.finished("election"))


async def _elected(elector: Elector, settings: OperatorSettings, health: Health) -> bool:
    """Stand by until this operator leads. False if a signal ended that.

    A standby is ready, so that a rollout goes on, and watches nothing: what it needs comes with two lists, sooner than a Lease
    expires, and warm watches would cost the API server and this pod as much as a leader's.
    """
    health.expect({"election": 30 + 2 * settings.lease_duration})
    health.ready = True
    elected = await _unless_signalled(elector.acquire())
    health.ready = False
    return elected


async def _unless_signalled(act: Coroutine[Any, Any, None]) -> bool:
    """Whether it ended before SIGTERM or SIGINT, which ends it."""
    loop, acting = asyncio.get_running_loop(), asyncio.ensure_future(act)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, acting.cancel)
    try:
        await asyncio.wait([acting])
        return not acting.cancelled() and acting.result() is None
    finally:
        acting.cancel()


async def _work(
    settings: OperatorSettings,
    kube: Kube,
    guard: WriteGuard,
    store: QueueStore,
    health: Health,
    *more: Coroutine[Any, Any, None],
) -> None:
    """All that an operator does, until a signal. `more`: loops that run beside it."""
    work = WorkQueue()
    reporter = Reporter(kube, settings.identity)
    pool = RedisPool(settings.redis_timeout, lambda: users.url, allowed=settings.allowed_redis, guard=guard)
    reclaimer = Reclaimer(store, pool)
    users = RedisUsers(pool, settings.redis_url)
    credentials = Credentials(kube, users, settings)
    witness, seen = Witness(), handlers.Seen.nothing()
    listing = Listing(kube, partial(seen.task_queues.new, deleted=False), partial(seen.deployments.new, deleted=False))
    claims = QueueClaims(kube, pool, settings.cluster_id)
    poller = ConfigPoller(kube, work, settings.config_interval, settings.config_rate)
    namespaces = Namespaces(kube, work, store.refs, settings.pod_namespace, settings.watch_namespaces)
    deletions = Deletions(kube, reporter, namespaces)
    reconciler = Reconciler(kube, store, work, settings, reporter, claims, credentials, listing, poller, deletions)
    resync = Resync(listing, store, work, witness, settings.watch_namespaces)
    autoscaler = Autoscaler(kube, store, work, pool, reporter)
    limits = {
        "autoscaler": 30 + 5 * settings.interval,
        "resync": 120 + 3 * settings.resync,
        "configuration": 120.0,
        "watches": 120.0,
    }
    stuck = {
        "no TaskQueue is reconciled although some wait": (work.waited, PASS_SECONDS + 60),
        "one reconcile": (work.longest, PASS_SECONDS + 60),
        "one round of the autoscaler": (autoscaler.longest, ROUND_SECONDS + 60),
    }
    health.expect(limits, stuck)
    async with asyncio.TaskGroup() as group:
        loops = [
            group.create_task(reconciler.run()),
            group.create_task(reclaimer.run()),
            group.create_task(poller.run(lambda: health.finished("configuration"))),
            group.create_task(users.run(settings.interval)),
            group.create_task(autoscaler.run(settings.interval, lambda: health.finished("autoscaler"))),
            *(group.create_task(each) for each in more),
        ]
        log.info("operator started", extra={"namespaces": ",".join(settings.watch_namespaces) or "all"})
        # kopf looks up the watched resource once, so the CRD must exist by then: list it first.
        if await _unless_signalled(_until_listed(kube, credentials, claims, namespaces, resync, health)):
            loops.append(group.create_task(namespaces.run()))
            resyncing = _resync(credentials, resync, settings.resync, lambda: health.finished("resync"))
            loops.append(group.create_task(resyncing))
            watched = handlers.registry(work, reclaimer, witness, seen, lambda ref: store.get(ref) is not None, deletions.draining)
            await Supervisor(
                partial(_watch, settings.identity, watched),
                witness,
                resync.watchable,
                health.set_ready,
                lambda: health.finished("watches"),
            ).run()
        log.info("operator stopping")
        for loop in loops:
            loop.cancel()


async def _until_listed(
    kube: Kube, credentials: Credentials, claims: QueueClaims, namespaces: Namespaces, resync: Resync, health: Health
) -> None:
    while True:
        try:
            await _know_cluster(kube, claims)
            await credentials.refresh()
            await namespaces.look()
            await resync.run_once()
        except StokerError as error:
            log.warning("cannot list TaskQueues yet: %s", error)
        except Exception:  # a TaskQueue that a defect is met by must not end the operator for the others
            log.exception("cannot list TaskQueues yet: defect in the operator")
        else:
            return
        finally:
            health.finished("resync")
            health.finished("watches")
        await asyncio.sleep(FIRST_LIST_RETRY)


async def _know_cluster(kube: Kube, claims: QueueClaims) -> None:
    if claims.cluster:
        return
    try:
        claims.cluster = await kube.cluster_id()
    except KubernetesRefused as error:
        raise KubernetesRefused(f"the UID of namespace kube-system cannot be read ({error}): set STOKER_CLUSTER_ID") from error


async def _resync(credentials: Credentials, resync: Resync, interval: float, finished: Callable[[], None]) -> None:
    """The safety net below the watches: finds missed events."""
    while True:
        await asyncio.sleep(interval)
        for purpose, act in (("read the operator's Secrets", credentials.refresh), ("list TaskQueues", resync.run_once)):
            try:
                await act()
            except StokerError as error:
                log.warning("cannot %s: %s", purpose, error)
            except Exception:
                log.exception("cannot %s: defect in the operator", purpose)
        finished()


async def _watch(identity: str, registry: kopf.OperatorRegistry, namespaces: Collection[str], stop: asyncio.Event) -> None:
    """Run kopf until a signal or `stop` ends it: it installs the signal handlers of this process."""
    await kopf.operator(
        registry=registry,
        # By default kopf looks up the user's name, which fails for a container's uid without one.
        identity=Identity(identity),
        settings=handlers.settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )


if __name__ == "__main__":
    main()
