"""The reconciler: observe one TaskQueue, perform its plan, store what was found, report it."""

import asyncio
import logging
import time
from datetime import UTC, datetime

from msgspec.structs import replace

from stoker.errors import Invalid, NotFound, StokerError
from stoker.manifest.task_queue import parse
from stoker_operator import metrics
from stoker_operator.credentials.credentials import Credentials
from stoker_operator.kube import Kube, KubernetesBusy, KubernetesConflict, KubernetesForbidden, KubernetesRefused
from stoker_operator.reconcile.applied import last_applied
from stoker_operator.reconcile.child_keeper import ChildKeeper
from stoker_operator.reconcile.config_poller import ConfigPoller
from stoker_operator.reconcile.connections import Connections
from stoker_operator.reconcile.deletion import Deletions
from stoker_operator.reconcile.inherited import inherited
from stoker_operator.reconcile.listing import Listing
from stoker_operator.reconcile.moves import Moves
from stoker_operator.reconcile.ownership import handed_over
from stoker_operator.reconcile.plan import Action, Apply, Create, HandOver, Live, Observed, live, plan
from stoker_operator.reconcile.pods import failing, restarts
from stoker_operator.reconcile.quarrels import Quarrels
from stoker_operator.reconcile.queue_claims import QueueClaims
from stoker_operator.reconcile.resources import check
from stoker_operator.reconcile.rollout import figures, judge
from stoker_operator.report.reporter import Reporter
from stoker_operator.settings import OperatorSettings
from stoker_operator.state.findings import Findings, RedisQueue, Trial, Workers
from stoker_operator.state.problem import (
    REFUSED,
    UNWATCHED,
    Problem,
    deletion_hindered,
    invalid_spec,
    request_refused,
    right_missing,
    rollout_paused,
    served_elsewhere,
    workers_refused,
)
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.ref import DEPLOYMENTS, PAUSE_ROLLOUTS, Object, Owner, Ref
from stoker_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)
CONCURRENCY = 12
"""Passes at a time; of one namespace at most a third (work_queue.py)."""
HAND_OVER_ATTEMPTS = 3
PASS_SECONDS = 120.0
"""For one pass. Each of its requests has a shorter limit: a pass that takes longer hangs."""
POLL_SECONDS = 5.0
"""Between looks at what no watch reports: a pod that cannot start or crashes in a rollout, a Secret that is missing."""


class Reconciler:
    """Takes names from the work queue, `CONCURRENCY` at a time, never one name twice at once."""

    def __init__(
        self,
        kube: Kube,
        store: QueueStore,
        work: WorkQueue,
        settings: OperatorSettings,
        reporter: Reporter,
        claims: QueueClaims,
        credentials: Credentials,
        listing: Listing,
        poller: ConfigPoller,
        deletions: Deletions,
    ) -> None:
        self._kube = kube
        self._store = store
        self._work = work
        self._reporter = reporter
        self._claims = claims
        self._credentials = credentials
        self._poller = poller
        self._connections = Connections(kube, credentials, poller.refer)
        self._installation = settings.installation_name
        self._tokens = settings.service_account_tokens == "Allowed"
        self._quarrels = Quarrels()
        self._moves = Moves(claims.in_redis, self._connections)
        self._listing = listing
        self._deletions = deletions
        self._children = ChildKeeper(kube, settings.watch_namespaces)
        self._rolled: dict[Ref, int] = {}  # the Deployment's generation that has the newest template; after a restart: unknown

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(self._process())

    async def _process(self) -> None:
        while True:
            async with self._work.take() as ref:
                await self._attempt(ref)

    async def _attempt(self, ref: Ref) -> None:
        try:
            with metrics.RECONCILE_DURATION.time():
                async with asyncio.timeout(PASS_SECONDS):
                    await self.reconcile(ref)
        except KubernetesConflict as error:
            pause = self._work.failed(ref)
            log.debug("conflict, retrying in %gs: %s", pause, error, extra={"taskqueue": str(ref)})
        except StokerError as error:
            metrics.RECONCILE_ERRORS.inc()
            pause = self._work.failed(ref, error.seconds if isinstance(error, KubernetesBusy) else 0.0)
            log.warning("reconcile failed, retrying in %gs: %s", pause, error, extra={"taskqueue": str(ref)})
        except TimeoutError:
            metrics.RECONCILE_ERRORS.inc()
            pause = self._work.failed(ref)
            log.error("reconcile aborted after %gs, retrying in %gs", PASS_SECONDS, pause, extra={"taskqueue": str(ref)})
        except Exception:  # a defect met by one TaskQueue must not stop the others
            metrics.RECONCILE_ERRORS.inc()
            self._work.failed(ref)
            log.exception("reconcile failed: defect in the operator", extra={"taskqueue": str(ref)})

    async def reconcile(self, ref: Ref) -> None:
        """One pass over one TaskQueue."""
        began = time.monotonic()
        try:
            found = await self._listing.task_queue(ref)
        except NotFound:
            await self._claims.release(ref, self._store.get(ref))
            self._store.forget(ref)
            self._rolled.pop(ref, None)
            self._quarrels.forget(ref)
            self._moves.forget(ref)
            self._poller.forget(ref)
            self._deletions.forget(ref)
            if ref.namespace not in {other.namespace for other in self._store.refs()}:
                self._credentials.forget(ref.namespace)
            return
        findings = await self._deletions.hold(ref, found, await self._findings(ref, found))
        findings = replace(findings, left_behind=self._moves.left_behind(ref))
        findings = replace(findings, incomplete=await self._children.keep(ref, found, findings))
        version = found["metadata"]["resourceVersion"]
        queue = self._store.observed(ref, findings, found.get("status") or {}, began, version)
        await self._reporter.report(queue)
        if findings.problem and findings.problem.reason in REFUSED:
            self._work.failed(ref)
            return
        self._work.succeeded(ref)
        pauses = [POLL_SECONDS] if _changes_unwatched(findings) else []
        if (pause := self._quarrels.look_again(ref, time.monotonic())) is not None:
            pauses.append(pause)
        if pauses:
            self._work.add_after(ref, min(pauses))

    async def _findings(self, ref: Ref, found: Object) -> Findings:
        """What a pass finds. A request that the API server refuses is a problem of this TaskQueue, for its status to show."""
        metadata = found["metadata"]
        suspended = (found.get("spec") or {}).get("suspend") is True
        findings = Findings(metadata["uid"], metadata["generation"], suspended=suspended)
        try:
            if (ended := await self._deletions.end(ref, found)) is not None:
                return self._known(ref, findings, ended)
            return await self._pass(ref, found, findings)
        except KubernetesForbidden as error:
            problem = right_missing(error)
        except KubernetesRefused as error:
            problem = request_refused(error)
        return self._known(ref, findings, deletion_hindered(problem) if "deletionTimestamp" in metadata else problem)

    def _known(self, ref: Ref, findings: Findings, problem: Problem) -> Findings:
        """What was known before, with this problem now: what an earlier pass applied still runs."""
        known = self._store.get(ref)
        if known is None or known.findings.uid != findings.uid:
            return replace(findings, problem=problem)
        before = known.findings
        applied = before.generation if before.problem is None else before.last_good
        return replace(before, generation=findings.generation, suspended=findings.suspended, problem=problem, last_good=applied)

    async def _pass(self, ref: Ref, found: Object, findings: Findings) -> Findings:
        owner = Owner(ref, findings.uid)
        present = await self._live(ref)
        if present is not None and (other := present.served_by_other(owner, self._installation)):
            return replace(findings, problem=served_elsewhere(ref, other, self._installation))
        findings = replace(findings, workers=await self._workers(ref, owner, present))
        if "deletionTimestamp" in found["metadata"]:
            problem = await self._deletions.drain(ref, found, present)
            return replace(self._known(ref, findings, problem), workers=findings.workers)
        try:
            if "spec" not in found:
                raise Invalid("the spec is nested too deeply to be read: a payload has more than 1,000 levels")
            queue = parse(found)
            check(queue, tokens=self._tokens)
        except Invalid as error:
            return await self._last_good(replace(findings, problem=invalid_spec(error)), owner, present)
        own = "" if queue.spec.redis.url_secret_ref else self._credentials.url
        findings = replace(findings, manifest=queue, redis_url=own)
        connection = await self._connections.of(queue)
        if isinstance(connection, Problem):
            return await self._last_good(replace(findings, problem=connection), owner, present)

        findings = replace(findings, redis_url=connection.url)
        observed = Observed(queue, owner, connection, live=present, installation=self._installation, inherited=inherited(found))
        observed = replace(observed, trial=findings.workers.trial if findings.workers else Trial(), may_pause=_may_pause(found))
        observed = await self._claim(observed, RedisQueue(connection.url, queue))
        observed = replace(observed, applied=self._moves.annotation(ref, found))
        planned = plan(observed)
        if present is not None:
            planned = self._quarrels.judge(ref, present, planned, time.monotonic())
        findings = replace(findings, problem=planned.problem, contested=self._quarrels.contested(ref, time.monotonic()))
        try:
            changed = await self._perform(ref, present, planned.actions)
        except KubernetesRefused as error:
            return await self._last_good(replace(findings, problem=workers_refused(error)), owner, present)
        if changed is None:
            return findings
        if present is None or changed.template != present.template:
            self._rolled[ref] = changed.generation
        return replace(findings, workers=await self._workers(ref, owner, changed))

    async def _claim(self, observed: Observed, source: RedisQueue) -> Observed:
        """Claim the queue. Once it is claimed, look at the Redis that it has left."""
        observed = await self._claims.claim(observed, source)
        if observed.taken is None and observed.unclaimed is None:
            owner, present = observed.owner, observed.live
            applied = last_applied(present.manifest, owner.ref) if present and present.belongs_to(owner) else None
            await self._moves.follow(owner.ref, source, self._claims.holder(owner), applied)
        return observed

    async def _last_good(self, findings: Findings, owner: Owner, present: Live | None) -> Findings:
        """The findings with what the workers run by while their spec has a problem. An edit must not stop what runs."""
        applied = last_applied(present.manifest, owner.ref) if present and present.belongs_to(owner) else None
        if applied is None:
            return findings
        url = await self._connections.url(applied.manifest)
        if isinstance(url, Problem):
            known = self._store.get(owner.ref)
            url = known.findings.redis_url if known and known.findings.uid == owner.uid else ""
        return replace(findings, manifest=applied.manifest, redis_url=url, last_good=applied.generation)

    async def _perform(self, ref: Ref, present: Live | None, actions: tuple[Action, ...]) -> Live | None:
        """Returns the Deployment after the last action, None without any."""
        after: Live | None = None
        for action in actions:
            log.info("%s Deployment %s", type(action).__name__.lower(), ref.deployment, extra={"taskqueue": str(ref)})
            match action:
                case Create(manifest):
                    after = live(await self._kube.create(DEPLOYMENTS, ref.namespace, manifest))
                case HandOver():
                    after = await self._hand_over(ref, after or present)
                case Apply(manifest, uid):
                    current = after or present
                    version = current.version if current else ""
                    after = live(await self._kube.apply(DEPLOYMENTS, ref.namespace, uid, manifest, version))
                    self._quarrels.applied(ref, manifest, after)
        return after

    async def _hand_over(self, ref: Ref, found: Live | None) -> Live | None:
        """The cluster's own controllers may write at the same time: what is left after some attempts is done by the next pass."""
        for _ in range(HAND_OVER_ATTEMPTS):
            if found is None or (fields := handed_over(found.manifest)) is None:
                break
            try:
                return live(await self._kube.set_managed_fields(ref, found.manifest["metadata"]["resourceVersion"], fields))
            except KubernetesConflict:
                found = await self._live(ref)
        return found

    async def _live(self, ref: Ref) -> Live | None:
        try:
            return live(await self._listing.deployment(ref))
        except NotFound:
            return None

    async def _workers(self, ref: Ref, owner: Owner, present: Live | None) -> Workers | None:
        if present is None or not present.belongs_to(owner):
            return None
        rollout = present.rollout(self._rolled.get(ref, 0))
        pods: list[Object] = []
        trouble: Problem | None = None
        try:
            pods = await self._kube.pods(ref) if present.ready < present.replicas or rollout else []
        except KubernetesForbidden as error:
            trouble = right_missing(error)
        trial = judge(present.manifest, present.template, pods, datetime.now(UTC))
        return Workers(
            present.uid,
            present.replicas,
            present.pods,
            present.ready,
            trouble or failing(present.manifest, pods),
            present.template,
            rollout,
            restarts(pods),
            present.deleting,
            present.scaled_by,
            present.draining,
            trial,
            rollout_paused(ref, figures(trial), trial.last_words, present.old_pods) if present.paused else None,
            present.updated,
        )


def _may_pause(task_queue: Object) -> bool:
    return bool((task_queue["metadata"].get("annotations") or {}).get(PAUSE_ROLLOUTS) != "false")


def _changes_unwatched(findings: Findings) -> bool:
    """Whether the TaskQueue may get ready, or its problem get a cause, without a watch event."""
    if findings.left_behind is not None:
        return True
    if findings.problem is not None:
        return findings.problem.reason in UNWATCHED
    workers = findings.workers
    return workers is not None and (workers.ready < workers.replicas or bool(workers.rollout))
