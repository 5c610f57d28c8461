"""kopf glue: watches say *which* TaskQueue to look at, and nothing else is decided here.

Only `on.event` handlers: they write no annotation and no finalizer on anyone's objects.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import Any

import kopf

from stoker.manifest import GROUP, PLURAL, VERSION
from stoker_operator.kube import in_cluster
from stoker_operator.pods import ended
from stoker_operator.reclaim import Ended, Reclaimer
from stoker_operator.resources import QUEUE_LABEL, Ref
from stoker_operator.workqueue import WorkQueue


class Patience(Iterable[float]):
    """Seconds between attempts, without end: kopf ends the process when these run out, and a restart mends no API server."""

    def __iter__(self) -> Iterator[float]:
        return chain((1.0, 2.0, 3.0, 5.0, 8.0, 13.0), repeat(15.0))


def registry(queue: WorkQueue, reclaimer: Reclaimer) -> kopf.OperatorRegistry:
    """The handlers, in a registry of their own."""
    own = kopf.OperatorRegistry()
    login = kopf.login_with_service_account if in_cluster() else kopf.login_with_kubeconfig
    kopf.on.login(registry=own)(login)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=own)
    async def task_queue_changed(namespace: str | None, name: str, **_: Any) -> None:
        queue.add(Ref(str(namespace), name))  # both kinds are namespaced: it is never None

    @kopf.on.event("apps", "v1", "deployments", labels={QUEUE_LABEL: kopf.PRESENT}, registry=own)
    async def workers_changed(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        queue.add(Ref(str(namespace), labels[QUEUE_LABEL]))

    @kopf.on.event("", "v1", "pods", labels={QUEUE_LABEL: kopf.PRESENT}, registry=own)
    async def pod_changed(event: kopf.RawEvent, namespace: str | None, name: str, uid: str, labels: kopf.Labels, **_: Any) -> None:
        if ended(dict(event["object"]), deleted=event["type"] == "DELETED"):
            reclaimer.add(Ended(Ref(str(namespace), labels[QUEUE_LABEL]), name, uid))

    return own


def settings() -> kopf.OperatorSettings:
    """kopf as a quiet watcher: no Events, no peering, no look at CRDs and namespaces, and no stream that can hang."""
    quiet = kopf.OperatorSettings()
    quiet.posting.enabled = False
    quiet.peering.standalone = True
    quiet.scanning.disabled = True
    quiet.watching.label_selectors["apps", "v1", "deployments"] = QUEUE_LABEL
    quiet.watching.label_selectors["", "v1", "pods"] = QUEUE_LABEL
    quiet.watching.server_timeout = 240
    quiet.watching.client_timeout = 270
    quiet.watching.connect_timeout = 10
    quiet.watching.inactivity_timeout = 70  # bookmarks come every 60 s
    quiet.networking.request_timeout = 30
    quiet.networking.connect_timeout = 10
    quiet.networking.error_backoffs = Patience()
    return quiet
