"""The resync: lists all TaskQueues now and then, and queues each for a pass. The safety net below the watches."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence

from stoker_operator.kube import KubernetesRefused
from stoker_operator.reconcile.listing import Listing
from stoker_operator.state.queue_store import QueueStore
from stoker_operator.state.witness import Listed, Witness
from stoker_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)


class Resync:
    """Belongs to one event loop. `namespaces`: those to list; empty means all."""

    def __init__(self, listing: Listing, store: QueueStore, work: WorkQueue, witness: Witness, namespaces: Sequence[str]) -> None:
        self._listing = listing
        self._store = store
        self._work = work
        self._witness = witness
        self._namespaces = tuple(namespaces)
        self._refused: Collection[str] = ()

    async def run_once(self) -> None:
        """List all TaskQueues, and queue these and every one known before.

        A namespace that was deleted together with the operator's rights in it hides no other: it is left out until it is back.
        Raises KubernetesUnavailable, and KubernetesRefused if no namespace can be listed.
        """
        found: list[Listed] = []
        refused: dict[str, KubernetesRefused] = {}
        for namespace in self._namespaces or ("",):
            try:
                found += await self._listing.of(namespace)
            except KubernetesRefused as error:
                refused[namespace] = error
        self._report_refused(refused)
        self._refused = refused.keys()
        self._witness.listed(found, time.monotonic())
        for ref in {each.ref for each in found} | {ref for ref in self._store.refs() if ref.namespace not in refused}:
            self._work.add(ref)
        if len(refused) == len(self._namespaces or ("",)):
            raise next(iter(refused.values()))

    def watchable(self) -> tuple[str, ...] | None:
        """The namespaces to watch, empty for all: those that the last resync could list. None if there are none."""
        if not self._namespaces:
            return None if self._refused else ()
        return tuple(namespace for namespace in self._namespaces if namespace not in self._refused) or None

    def _report_refused(self, refused: Mapping[str, KubernetesRefused]) -> None:
        for namespace in refused.keys() - self._refused:
            log.warning("cannot list TaskQueues: %s", refused[namespace], extra={"namespace": namespace})
