"""Which watch events are worth a reconcile: those that change what a reconcile reads, other than the status.

The operator's own status write comes back as an event, a list after a reconnect repeats every object, and a rollout updates a
Deployment's status many times. Dropping an event is safe: the resync looks at every TaskQueue without one.
"""

from collections import OrderedDict
from collections.abc import Callable

from stoker_operator.reconcile.pods import deadline_exceeded, replica_failure
from stoker_operator.reconcile.resources import digest
from stoker_operator.state.ref import Object

REMEMBERED = 20_000
"""Objects whose content is remembered, as digests. The event of one that was dropped from memory costs one more reconcile."""
_BOOKKEEPING = frozenset({"managedFields", "resourceVersion"})
_REVISION = "deployment.kubernetes.io/revision"

Content = Callable[[Object], Object]


def task_queue_content(found: Object) -> Object:
    """A TaskQueue without its status and what the API server changes with every write."""
    content = {field: value for field, value in found.items() if field != "status"}
    return {**content, "metadata": _metadata(found)}


def deployment_content(found: Object) -> Object:
    """A Deployment with, of its status, only what the status of a TaskQueue is made from."""
    status = found.get("status") or {}
    seen = {
        field: status.get(field, 0)
        for field in ("replicas", "readyReplicas", "updatedReplicas", "terminatingReplicas", "observedGeneration")
    }
    annotations = {name: value for name, value in (found["metadata"].get("annotations") or {}).items() if name != _REVISION}
    metadata = {**_metadata(found), "annotations": annotations}
    return {**found, "metadata": metadata, "status": {**seen, "failures": [replica_failure(found), deadline_exceeded(found)]}}


def differs(content: Content, before: Object, after: Object) -> bool:
    """Whether the change from one version of an object to the next is worth a reconcile."""
    return content(before) != content(after)


class Changes:
    """Remembers the last content of each object of one kind. Belongs to one event loop."""

    def __init__(self, content: Content, remembered: int = REMEMBERED) -> None:
        self._content = content
        self._remembered = remembered
        self._digests: OrderedDict[str, str] = OrderedDict()

    def new(self, found: Object, *, deleted: bool) -> bool:
        """Whether this event of the object says something new. A deletion always does."""
        uid = found["metadata"]["uid"]
        before = self._digests.pop(uid, None)
        if deleted:
            return True
        now = self._digests[uid] = digest(self._content(found))
        if len(self._digests) > self._remembered:
            self._digests.popitem(last=False)
        return now != before


def _metadata(found: Object) -> Object:
    return {field: value for field, value in found["metadata"].items() if field not in _BOOKKEEPING}
