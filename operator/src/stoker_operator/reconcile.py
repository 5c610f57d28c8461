"""The shell around `plan`: observe one TaskQueue, perform what the plan says, remember what was found, report it."""

import asyncio
import logging
import time

from msgspec.structs import replace

from stoker.errors import Invalid, NotFound, StokerError
from stoker.manifest import TaskQueue, parse
from stoker_operator import metrics
from stoker_operator.kube import Kube, KubernetesConflict, KubernetesRefused
from stoker_operator.plan import Action, Apply, Create, Halt, Live, Observed, Scale, live, plan
from stoker_operator.pods import failing
from stoker_operator.reporter import Reporter
from stoker_operator.resources import Connection, Object, Owner, Ref, check, digest, secret_names
from stoker_operator.roster import Claim, Entry, Findings, Roster, Workers
from stoker_operator.settings import OperatorSettings
from stoker_operator.workqueue import WorkQueue

log = logging.getLogger(__name__)
AT_ONCE = 4
LOOK_AGAIN = 5.0
"""Seconds between looks at what nobody tells us about: a pod that cannot start, a Secret that is made at last."""


class Reconciler:
    """Takes names from the queue, several at a time, each by one pass alone."""

    def __init__(self, kube: Kube, roster: Roster, queue: WorkQueue, settings: OperatorSettings, reporter: Reporter) -> None:
        self._kube = kube
        self._roster = roster
        self._queue = queue
        self._settings = settings
        self._reporter = reporter

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def resync(self) -> None:
        """Look at every TaskQueue there is, and at every one that we thought there was."""
        listed = await self._kube.task_queues(self._settings.watch_namespaces)
        found = {_ref(item): item for item in listed}
        if not self._roster.entries:
            # Who is the older of two can only be told when all are known.
            for ref, item in found.items():
                await self._claim_early(ref, item)
        for ref in {*found, *self._roster.entries}:
            self._queue.add(ref)

    async def _claim_early(self, ref: Ref, found: Object) -> None:
        try:
            queue = parse(found)
            connection = await self._connection(queue)
        except StokerError:
            return  # its own pass will say so
        if isinstance(connection, Connection):
            self._roster.claim(_claim(ref, found, connection, queue))

    async def _work(self) -> None:
        while True:
            async with self._queue.take() as ref:
                await self._attempt(ref)

    async def _attempt(self, ref: Ref) -> None:
        try:
            with metrics.RECONCILE_DURATION.time():
                await self.reconcile(ref)
        except KubernetesConflict as error:
            pause = self._queue.failed(ref)
            log.debug("changed meanwhile, looking again in %gs: %s", pause, error, extra={"taskqueue": str(ref)})
        except StokerError as error:
            metrics.RECONCILE_ERRORS.inc()
            pause = self._queue.failed(ref)
            log.warning("trying again in %gs: %s", pause, error, extra={"taskqueue": str(ref)})
        except Exception:  # a defect that one TaskQueue meets must not stop the others
            metrics.RECONCILE_ERRORS.inc()
            self._queue.failed(ref)
            log.exception("a defect in the operator", extra={"taskqueue": str(ref)})

    async def reconcile(self, ref: Ref) -> None:
        """One pass over one TaskQueue."""
        began = time.monotonic()
        try:
            found = await self._kube.task_queue(ref)
        except NotFound:
            self._look_at(self._roster.forget(ref))
            return
        findings = await self._pass(ref, found)
        entry = self._remember(ref, found, findings, began)
        await self._reporter.report(entry)
        if findings.halt and findings.halt.reason == "WorkersRefused":
            self._queue.failed(ref)  # a quota or a right may be granted without anything here changing
            return
        self._queue.succeeded(ref)
        if _may_pass_unseen(findings):
            self._queue.add_later(ref, LOOK_AGAIN)

    async def _pass(self, ref: Ref, found: Object) -> Findings:
        metadata = found["metadata"]
        owner = Owner(ref, metadata["uid"])
        present = await self._live(ref)
        findings = Findings(owner.uid, metadata["generation"], workers=await self._workers(ref, owner, present))
        try:
            queue = parse(found)
            check(queue)
        except Invalid as error:
            return replace(findings, halt=Halt("InvalidSpec", str(error)))
        connection = await self._connection(queue)
        if isinstance(connection, Halt):
            return replace(findings, queue=queue, halt=connection)

        claim = _claim(ref, found, connection, queue)
        self._look_at(self._roster.claim(claim))
        decided = plan(
            Observed(
                queue=queue,
                owner=owner,
                connection=connection,
                namespace=self._settings.namespace,
                live=present,
                holder=self._roster.holder(claim),
                deleting="deletionTimestamp" in metadata,
            )
        )
        findings = replace(findings, queue=queue, redis_url=connection.url, halt=decided.halt)
        try:
            changed = await self._perform(ref, decided.actions)
        except KubernetesRefused as error:
            return replace(findings, halt=Halt("WorkersRefused", f"the API server refused the Deployment: {error}"))
        return replace(findings, workers=await self._workers(ref, owner, changed)) if changed else findings

    async def _perform(self, ref: Ref, actions: tuple[Action, ...]) -> Live | None:
        """Returns the Deployment as the last action left it; None where nothing was done."""
        after: Live | None = None
        for action in actions:
            log.info("%s %s", type(action).__name__.lower(), ref.deployment, extra={"taskqueue": str(ref)})
            match action:
                case Create(manifest):
                    after = live(await self._kube.create_deployment(ref, manifest))
                case Apply(manifest, uid):
                    after = live(await self._kube.apply_deployment(ref, uid or (after.uid if after else ""), manifest))
                case Scale(uid, replicas):
                    await self._kube.scale_deployment(ref, uid, replicas)
                    after = await self._live(ref)
        return after

    async def _live(self, ref: Ref) -> Live | None:
        try:
            return live(await self._kube.deployment(ref))
        except NotFound:
            return None

    async def _workers(self, ref: Ref, owner: Owner, present: Live | None) -> Workers | None:
        if present is None or not present.belongs_to(owner):
            return None
        pods = await self._kube.pods(ref) if present.ready < present.replicas else []
        return Workers(present.uid, present.replicas, present.pods, present.ready, failing(present.manifest, pods))

    async def _connection(self, queue: TaskQueue) -> Connection | Halt:
        """Where Redis is, and what the workers' Secrets hold."""
        contents: dict[str, dict[str, bytes]] = {}
        for name in secret_names(queue):
            try:
                contents[name] = await self._kube.secret(queue.namespace, name)
            except NotFound:
                return Halt("SecretMissing", f"Secret {name} is not there: create it in namespace {queue.namespace}")
        summary = {name: {key: value.hex() for key, value in content.items()} for name, content in contents.items()}
        secrets_digest = digest(summary) if summary else ""
        reference = queue.spec.redis.url_secret_ref
        if reference is None:
            return Connection(self._settings.redis_url, secrets_digest)
        if reference.key not in contents[reference.name]:
            keys = ", ".join(sorted(contents[reference.name])) or "none"
            return Halt("SecretMissing", f"Secret {reference.name} has no key {reference.key!r}; it has: {keys}")
        return Connection(contents[reference.name][reference.key].decode(errors="replace").strip(), secrets_digest)

    def _remember(self, ref: Ref, found: Object, findings: Findings, began: float) -> Entry:
        entry = self._roster.entries.get(ref)
        if entry is None or entry.findings.uid != findings.uid:
            entry = self._roster.entries[ref] = Entry(ref, findings, status=found.get("status") or {})
            return entry
        if entry.scaled_at > began and findings.workers and entry.findings.workers:
            # The autoscaler acted while we looked: what it asked for is newer than what we saw.
            newer = replace(findings.workers, replicas=entry.findings.workers.replicas)
            findings = replace(findings, workers=newer)
        if entry.written_at < began:
            entry.status = found.get("status") or {}
        entry.findings = findings
        return entry

    def _look_at(self, refs: set[Ref]) -> None:
        for ref in refs:
            self._queue.add(ref)


def _may_pass_unseen(findings: Findings) -> bool:
    """Whether it may get better, or be explained, without an event that we watch for."""
    if findings.halt is not None:
        return findings.halt.reason == "SecretMissing"
    return findings.workers is not None and findings.workers.ready < findings.workers.replicas


def _ref(found: Object) -> Ref:
    return Ref(found["metadata"]["namespace"], found["metadata"]["name"])


def _claim(ref: Ref, found: Object, connection: Connection, queue: TaskQueue) -> Claim:
    return Claim(found["metadata"]["creationTimestamp"], ref, (connection.url, queue.queue))
