"""Looks at the Secrets and ConfigMaps that workers' pods read, and queues the TaskQueues whose object has changed.

They are not watched: a watch takes the right to read every Secret of a namespace. Each object is looked at by one `get` of its
metadata, however many TaskQueues refer to it, from the API server's cache (`resourceVersion=0`, as the kubelet reads them): no
value of a Secret is transferred, and etcd is not asked. Looks are spread evenly over the interval.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from stoker.errors import NotFound, StokerError
from stoker_operator import metrics
from stoker_operator.kube import KubernetesBusy, KubernetesForbidden
from stoker_operator.reconcile.config_sources import Kind
from stoker_operator.state.ref import Ref
from stoker_operator.work_queue import WorkQueue

log = logging.getLogger(__name__)
AT_ONCE = 8
"""Looks that may be under way. An API server that answers slowly stretches the interval."""
TICK_SECONDS = 1.0


class ConfigObject(NamedTuple):
    """A Secret or a ConfigMap."""

    kind: Kind
    namespace: str
    name: str


Versions = Mapping[ConfigObject, str]
"""The resourceVersion of each; empty if it is missing or may not be read."""


class Reads(Protocol):
    """What the poller asks Kubernetes for."""

    async def config_version(self, plural: str, namespace: str, name: str) -> str:
        """The resourceVersion. Raises what Kube raises."""


_PLURALS: Mapping[Kind, str] = {"Secret": "secrets", "ConfigMap": "configmaps"}


class ConfigPoller:
    """Belongs to one event loop. `interval` in seconds; `rate`: most looks per second, by which the interval stretches."""

    def __init__(
        self, kube: Reads, work: WorkQueue, interval: float, rate: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._work = work
        self._interval = interval
        self._rate = rate
        self._monotonic = monotonic
        self._versions: OrderedDict[ConfigObject, str] = OrderedDict()  # in the order in which they are looked at next
        self._referring: dict[ConfigObject, set[Ref]] = {}
        self._read_by: dict[Ref, frozenset[ConfigObject]] = {}
        self._next_look = monotonic()
        self._resume_at = self._next_look

    @property
    def interval(self) -> float:
        """Seconds between two looks at one object: longer than was asked for where the rate allows no more."""
        return max(self._interval, len(self._versions) / self._rate)

    def refer(self, ref: Ref, versions: Versions) -> None:
        """A pass has read these objects for a TaskQueue, and no others."""
        now = frozenset(versions)
        for gone in self._read_by.get(ref, frozenset()) - now:
            self._referring[gone].discard(ref)
            if not self._referring[gone]:
                del self._referring[gone], self._versions[gone]
        for each, version in versions.items():
            self._referring.setdefault(each, set()).add(ref)
            if self._versions.setdefault(each, version) != version:
                self._changed(each, version, known_to=ref)
        self._read_by[ref] = now
        metrics.CONFIG_INTERVAL.set(self.interval)

    def forget(self, ref: Ref) -> None:
        """The TaskQueue is gone."""
        self.refer(ref, {})
        del self._read_by[ref]

    async def run(self, finished: Callable[[], None]) -> None:
        """Until cancelled. Calls `finished` about once a second, or after each look."""
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(min(TICK_SECONDS, max(self._next_look, self._resume_at) - self._monotonic()))
                finished()
                if (due := self.next_due()) is not None:
                    await slots.acquire()  # waits while the API server is slow
                    group.create_task(self.look(due)).add_done_callback(lambda _: slots.release())

    def next_due(self) -> ConfigObject | None:
        """The object to look at now, if any is due. It is the last in the order from then on."""
        now = self._monotonic()
        step = self.interval / max(1, len(self._versions))
        self._next_look = min(self._next_look, now + step)  # there are more objects than there were
        if not self._versions:
            self._next_look = now + TICK_SECONDS
        if now < max(self._next_look, self._resume_at):
            return None
        self._next_look = max(self._next_look + step, now)  # behind by more than a step: no burst to make up for it
        due = next(iter(self._versions))
        self._versions.move_to_end(due)
        return due

    async def look(self, at: ConfigObject) -> None:
        """Queue the TaskQueues that refer to the object if it has changed. Raises nothing: the loop serves all others too."""
        try:
            version = await self._kube.config_version(_PLURALS[at.kind], at.namespace, at.name)
        except (NotFound, KubernetesForbidden):
            version = ""
        except KubernetesBusy as error:
            self._resume_at = self._monotonic() + error.seconds
            return
        except StokerError as error:
            log.debug("cannot look at %s %s/%s: %s", *at, error)
            return
        except Exception:
            log.exception("cannot look at %s %s/%s: defect in the operator", *at)
            return
        if self._versions.get(at, version) != version:
            self._changed(at, version)

    def _changed(self, at: ConfigObject, version: str, known_to: Ref | None = None) -> None:
        self._versions[at] = version
        for ref in self._referring[at]:
            if ref != known_to:
                self._work.add(ref)
