"""kopf's handlers: a watch event only names the TaskQueue to reconcile. No decision is made here.

`on.event` handlers only: they write no annotation and no finalizer.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import Any, NamedTuple

import kopf

from stoker.manifest.task_queue import GROUP, PLURAL, VERSION
from stoker_operator.cluster_access import in_cluster, in_cluster_address
from stoker_operator.queues.reclaimer import EndedPod, Reclaimer
from stoker_operator.reconcile.pods import cause_of, ended
from stoker_operator.state.ref import QUEUE_LABEL, Ref, labelled, ours
from stoker_operator.state.witness import Witness
from stoker_operator.watch.predicates import Changes, deployment_content, task_queue_content
from stoker_operator.work_queue import WorkQueue


class RetryDelays(Iterable[float]):
    """Seconds between attempts, without end: kopf exits when they run out, and a restart does not repair an API server."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 2.0, 3.0, 5.0, 8.0, 13.0), repeat(15.0))


class Seen(NamedTuple):
    """The content of TaskQueues and Deployments that has been seen, by watches and by the first list."""

    task_queues: Changes
    deployments: Changes

    @classmethod
    def nothing(cls) -> "Seen":
        return cls(Changes(task_queue_content), Changes(deployment_content))


def registry(
    work: WorkQueue,
    reclaimer: Reclaimer,
    witness: Witness,
    seen: Seen,
    known: Callable[[Ref], bool],
    draining: Callable[[Ref], bool],
) -> kopf.OperatorRegistry:
    """The handlers, apart from kopf's global registry. `known`: whether a TaskQueue of that name has been reconciled. `draining`:
    whether it waits for its pods to end."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(_login_by_address if in_cluster() else kopf.login_with_kubeconfig)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=handlers)
    async def task_queue_event(
        event: kopf.RawEvent, namespace: str | None, name: str, uid: str | None, meta: kopf.Meta, **_: Any
    ) -> None:
        found = dict(event["object"])
        witness.told(str(uid), int(meta["generation"]))
        if seen.task_queues.new(found, deleted=event["type"] == "DELETED"):
            work.add(Ref(str(namespace), name))  # a namespaced resource: the namespace is never None

    @kopf.on.event("apps", "v1", "deployments", labels={QUEUE_LABEL: kopf.PRESENT}, registry=handlers)
    async def deployment_event(event: kopf.RawEvent, **_: Any) -> None:
        found = dict(event["object"])
        ref = labelled(found)
        if ref is None or not (known(ref) or ours(found)):
            return
        if seen.deployments.new(found, deleted=event["type"] == "DELETED"):
            work.add(ref)

    @kopf.on.event("", "v1", "pods", labels={QUEUE_LABEL: kopf.PRESENT}, registry=handlers)
    async def pod_event(event: kopf.RawEvent, name: str, uid: str, **_: Any) -> None:
        found = dict(event["object"])
        ref = labelled(found)
        if ref is not None and ended(found, deleted=event["type"] == "DELETED"):
            reclaimer.add(EndedPod(ref, name, uid, cause_of(found)))
        if ref is not None and event["type"] == "DELETED" and draining(ref):
            work.add(ref)

    return handlers


def _login_by_address(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
    """The service account, at the address that the operator's own client uses: kopf's default needs the cluster's DNS."""
    account = kopf.login_with_service_account(settings=settings)
    return None if account is None else dataclasses.replace(account, server=in_cluster_address())


def settings() -> kopf.OperatorSettings:
    """kopf as a watcher only: no Events, no peering, no scan of CRDs and namespaces, and a timeout for every stream."""
    watcher = kopf.OperatorSettings()
    watcher.posting.enabled = False
    watcher.peering.standalone = True
    watcher.scanning.disabled = True
    watcher.watching.label_selectors["apps", "v1", "deployments"] = QUEUE_LABEL
    watcher.watching.label_selectors["", "v1", "pods"] = QUEUE_LABEL
    watcher.watching.server_timeout = 240
    watcher.watching.client_timeout = 270
    watcher.watching.connect_timeout = 10
    watcher.watching.inactivity_timeout = 70  # bookmarks come every 60 s
    watcher.networking.request_timeout = 30
    watcher.networking.connect_timeout = 10
    watcher.networking.error_backoffs = RetryDelays()
    return watcher
