"""The resync as a witness of the watches: what a list shows and no watch has told of means that the watch is deaf.

A watch can be deaf while its process looks healthy: no name of the API server can be resolved, a proxy swallows the stream,
kopf's task for one resource has ended.
"""

from collections.abc import Iterable
from typing import NamedTuple

from stoker_operator.state.ref import Object, Ref, ref_of

PATIENCE = 10.0
"""Seconds that a watch has to tell of what a list shows."""


class Listed(NamedTuple):
    """A TaskQueue as a list shows it, without its content."""

    ref: Ref
    uid: str
    generation: int


def listed(task_queue: Object) -> Listed:
    """From an item of a list."""
    metadata = task_queue["metadata"]
    return Listed(ref_of(task_queue), metadata["uid"], metadata["generation"])


class Witness:
    """Belongs to one event loop. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._told: dict[str, int] = {}
        self._listed: dict[str, Listed] = {}
        self._missed: dict[str, float] = {}

    def begin(self, now: float) -> None:
        """The watches begin: they tell of everything once more."""
        self._told.clear()
        self._missed = dict.fromkeys(self._listed, now)

    def told(self, uid: str, generation: int) -> None:
        """A watch told of a TaskQueue."""
        self._told[uid] = max(generation, self._told.get(uid, 0))
        if uid in self._missed and self._listed[uid].generation <= generation:
            del self._missed[uid]

    def listed(self, found: Iterable[Listed], now: float) -> None:
        """A list of all watched TaskQueues came at `now`."""
        self._listed = {each.uid: each for each in found}
        self._told = {uid: generation for uid, generation in self._told.items() if uid in self._listed}
        unheard = [uid for uid, each in self._listed.items() if self._told.get(uid, 0) < each.generation]
        self._missed = {uid: self._missed.get(uid, now) for uid in unheard}

    def deaf(self, now: float) -> Ref | None:
        """A TaskQueue that the watches should have told of."""
        return next((self._listed[uid].ref for uid, since in self._missed.items() if now - since > PATIENCE), None)

    @property
    def heard_all(self) -> bool:
        """Whether the watches have told of everything that the last list showed."""
        return not self._missed
