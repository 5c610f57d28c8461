"""What lists bring. The first list of a namespace brings whole TaskQueues and their Deployments, which the first pass over each
takes instead of reading them one by one: a restart with a thousand queues costs two requests, not two thousand."""

import time
from collections.abc import Callable
from typing import NamedTuple

from stoker_operator.kube import Kube
from stoker_operator.state.ref import Object, Ref, labelled, ref_of
from stoker_operator.state.witness import Listed, listed

FRESH = 60.0
"""Seconds for which an object of a list stands for one that is read. What changes meanwhile comes by the watches."""


class _Kept(NamedTuple):
    found: Object
    at: float


Seen = Callable[[Object], object]


class Listing:
    """Belongs to one event loop. All methods raise what Kube raises.

    `seen_task_queue` and `seen_deployment` are told of what the first list brings: the watches begin with the same objects, which
    are no news then.
    """

    def __init__(
        self, kube: Kube, seen_task_queue: Seen, seen_deployment: Seen, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._seen_task_queue = seen_task_queue
        self._seen_deployment = seen_deployment
        self._monotonic = monotonic
        self._begun: set[str] = set()
        self._task_queues: dict[Ref, _Kept] = {}
        self._deployments: dict[Ref, _Kept] = {}

    async def of(self, namespace: str) -> list[Listed]:
        """Every TaskQueue of a namespace; of all if empty."""
        if namespace in self._begun:
            return [listed(each) for each in await self._kube.task_queues(namespace)]
        now = self._monotonic()
        found = await self._kube.task_queues(namespace, whole=True)
        deployments = await self._kube.deployments(namespace)
        self._begun.add(namespace)
        for each in found:
            if "spec" in each:
                self._task_queues[ref_of(each)] = _Kept(each, now)
                self._seen_task_queue(each)
        for each in deployments:
            if (ref := _of_workers(each)) is not None:
                self._deployments[ref] = _Kept(each, now)
                self._seen_deployment(each)
        return [listed(each) for each in found]

    async def task_queue(self, ref: Ref) -> Object:
        """The TaskQueue."""
        return self._taken(self._task_queues, ref) or await self._kube.task_queue(ref)

    async def deployment(self, ref: Ref) -> Object:
        """The Deployment by the name of its workers'. It may be another's."""
        return self._taken(self._deployments, ref) or await self._kube.deployment(ref)

    def _taken(self, kept: dict[Ref, _Kept], ref: Ref) -> Object | None:
        one = kept.pop(ref, None)
        return one.found if one is not None and self._monotonic() - one.at < FRESH else None


def _of_workers(deployment: Object) -> Ref | None:
    """The TaskQueue whose workers' name a Deployment has, if its label says the same."""
    ref = labelled(deployment)
    return ref if ref is not None and deployment["metadata"]["name"] == ref.deployment else None
