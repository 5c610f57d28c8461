"""Keeps the objects beside the Deployment (children.py) as their TaskQueues ask.

No watch: each kind is listed at most every `LOOK_SECONDS`, for all TaskQueues of a namespace (or of the cluster) at once. So what
another changed is put right within that time, and a pass costs no request while nothing has changed.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from stoker.errors import NotFound
from stoker_operator.kube import Kube, KubernetesConflict, KubernetesForbidden, KubernetesRefused
from stoker_operator.reconcile.children import ApplyChild, Child, ChildAction, CreateChild, DeleteChild, children, plan_child
from stoker_operator.reconcile.inherited import inherited
from stoker_operator.state.findings import Findings
from stoker_operator.state.problem import Problem, child_refused, kind_missing, right_missing
from stoker_operator.state.ref import Object, Owner, Ref, Resource

log = logging.getLogger(__name__)
LOOK_SECONDS = 300.0

Place = tuple[str, str]
"""Namespace and name."""


class ChildKeeper:
    """Belongs to one event loop. `namespaces`: those that are watched, empty for all."""

    def __init__(self, kube: Kube, namespaces: Sequence[str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._scoped = bool(namespaces)
        self._monotonic = monotonic
        self._listed: dict[tuple[Resource, str], tuple[float, dict[Place, Object]]] = {}

    async def keep(self, ref: Ref, found: Object, findings: Findings) -> Problem | None:
        """Put right what the TaskQueue's children lack, if it is in force. Returns what could not be. Raises what Kube raises."""
        if (
            "deletionTimestamp" in found["metadata"]
            or findings.problem is not None
            or findings.suspended
            or findings.manifest is None
            or findings.workers is None
        ):
            return None
        owner = Owner(ref, findings.uid)
        problems = [await self._keep(child, owner) for child in children(findings.manifest, owner, inherited(found))]
        return next((problem for problem in problems if problem is not None), None)

    async def _keep(self, child: Child, owner: Owner) -> Problem | None:
        place = (owner.ref.namespace, child.name)
        known: dict[Place, Object] = {}
        try:
            known = await self._known(child.resource, owner.ref.namespace)
            planned = plan_child(child, known.get(place), owner)
            if planned is None:
                return None
            if isinstance(planned, Problem):
                # What was listed may be gone: the child of an earlier TaskQueue of this name.
                planned = plan_child(child, await self._look(child, known, place), owner)
            if isinstance(planned, Problem) or planned is None:
                return planned
            return await self._perform(planned, child, owner, known, place)
        except NotFound:
            known.pop(place, None)
            return kind_missing(child.resource.kind) if child.wanted else None
        except KubernetesConflict:
            known.pop(place, None)
            raise
        except KubernetesForbidden as error:
            return right_missing(error) if child.wanted else None
        except KubernetesRefused as error:
            return child_refused(child.resource.kind, error)

    async def _perform(
        self, action: ChildAction, child: Child, owner: Owner, known: dict[Place, Object], place: Place
    ) -> Problem | None:
        kind, namespace = child.resource, owner.ref.namespace
        log.info("%s %s %s", type(action).__name__, kind.kind, child.name, extra={"taskqueue": str(owner.ref)})
        match action:
            case CreateChild(manifest):
                try:
                    known[place] = await self._kube.create(kind, namespace, manifest)
                except KubernetesConflict:
                    again = plan_child(child, await self._look(child, known, place), owner)
                    if isinstance(again, Problem):
                        return again
                    raise
            case ApplyChild(manifest, uid):
                known[place] = await self._kube.apply(kind, namespace, uid, manifest)
            case DeleteChild(uid):
                await self._kube.delete(kind, namespace, child.name, uid)
                known.pop(place, None)
        return None

    async def _known(self, resource: Resource, namespace: str) -> dict[Place, Object]:
        scope = namespace if self._scoped else ""
        at, known = self._listed.get((resource, scope), (float("-inf"), {}))
        if self._monotonic() - at >= LOOK_SECONDS:
            try:
                known = by_place(await self._kube.objects(resource, scope))
            except NotFound:  # the kind is not installed
                known = {}
            self._listed[resource, scope] = (self._monotonic(), known)
        return known

    async def _look(self, child: Child, known: dict[Place, Object], place: Place) -> Object | None:
        """The object by its name, whatever its labels."""
        found = by_place(await self._kube.objects(child.resource, place[0], name=child.name)).get(place)
        if found is None:
            known.pop(place, None)
        else:
            known[place] = found
        return found


def by_place(found: Sequence[Object]) -> dict[Place, Object]:
    """The objects by namespace and name."""
    metadata: list[tuple[Mapping[str, str], Object]] = [(each["metadata"], each) for each in found]
    return {(names["namespace"], names["name"]): each for names, each in metadata}
