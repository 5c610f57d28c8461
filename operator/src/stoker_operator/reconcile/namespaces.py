"""Sees namespaces end, early enough: a finalizer that is left when the operator or its rights are gone keeps a namespace for ever.

Kubernetes begins to empty a deleted namespace after five seconds. A Role in it, and an operator in it, may be the first to go. So
the operator looks at its own namespace, and at each that it has rights in by a Role, and takes its finalizers away before.
"""

import asyncio
import logging
from collections.abc import Callable, Collection

from stoker.errors import NotFound, StokerError
from stoker_operator.kube import Kube, KubernetesRefused
from stoker_operator.state.ref import Ref
from stoker_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)
LOOK_SECONDS = 1.0


class Namespaces:
    """Belongs to one event loop. `own`: the operator's, empty outside of a cluster. `watched`: namespaces with a Role each;
    empty for all, by a ClusterRole, which outlives them.
    """

    def __init__(
        self, kube: Kube, work: WorkQueue, refs: Callable[[], Collection[Ref]], own: str, watched: Collection[str]
    ) -> None:
        self._kube = kube
        self._work = work
        self._refs = refs
        self._own = own
        self._watched = frozenset(watched)
        self._stay: set[str] = set()
        self._end: set[str] = set()
        self._refused: set[str] = set()

    def may_hold(self, namespace: str) -> bool:
        """Whether a finalizer in this namespace would be taken away in time: not while it ends, nor where that cannot be seen."""
        return {self._own, *({namespace} if self._watched else ())} - {""} <= self._stay

    def ends(self, namespace: str) -> bool:
        """Whether this namespace is being deleted, or the operator's."""
        return not self._end.isdisjoint((self._own, namespace))

    async def run(self) -> None:
        """Until cancelled. Raises nothing."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except StokerError as error:
                log.debug("cannot look at namespaces: %s", error)
            except Exception:
                log.exception("cannot look at namespaces: defect in the operator")

    async def look(self) -> None:
        """See which of them stay, and queue the TaskQueues of each that no longer does. Raises KubernetesUnavailable."""
        stays = {name: await self._stays(name) for name in {self._own, *self._watched} - {""}}
        stay, end = ({name for name, answer in stays.items() if answer is wanted} for wanted in (True, False))
        changed = (stay ^ self._stay) | (end ^ self._end)
        self._stay, self._end = stay, end
        for ref in self._refs():
            if ref.namespace in changed or self._own in changed:
                self._work.add(ref)

    async def _stays(self, name: str) -> bool | None:
        """None if it cannot be seen."""
        try:
            found = await self._kube.namespace(name)
        except NotFound:
            return False
        except KubernetesRefused as error:
            if name not in self._refused:
                log.warning("no finalizers, since the end of a namespace cannot be seen: %s", error, extra={"namespace": name})
            self._refused.add(name)
            return None
        self._refused.discard(name)
        return "deletionTimestamp" not in found["metadata"]
