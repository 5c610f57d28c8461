"""Telling people: the status of a TaskQueue, and an Event where something turned."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from stoker.errors import NotFound, StokerError
from stoker.manifest import GROUP, KIND, VERSION
from stoker_operator.conditions import Note, conditions, notes
from stoker_operator.kube import Kube, KubernetesConflict
from stoker_operator.resources import FIELD_MANAGER, Object
from stoker_operator.roster import Entry
from stoker_operator.status import status, worth_writing

log = logging.getLogger(__name__)
LONGEST_NOTE = 1000  # the API refuses more than 1024


class Reporter:
    """Writes what an entry says. `identity` signs the Events."""

    def __init__(self, kube: Kube, identity: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._identity = identity
        self._monotonic = monotonic

    async def report(self, entry: Entry) -> None:
        """Bring the status up to date, if it is worth a write by now."""
        async with entry.writing:
            known = (entry.findings, entry.reading, entry.scaling)
            current = conditions(*known)
            new = status(entry.ref, current, known, entry.status, timestamp())
            now = self._monotonic()
            if not worth_writing(new, entry.status, now - entry.written_at):
                return
            try:
                await self._kube.write_status(entry.ref, entry.findings.uid, new)
            except (NotFound, KubernetesConflict):
                return  # gone, or made anew: the watch tells the reconciler
            turned = notes(current, entry.status.get("conditions") or ())
            entry.status, entry.written_at = new, now
        for note in turned:
            await self.tell(entry, note)

    async def tell(self, entry: Entry, note: Note) -> None:
        """An Event about the TaskQueue. Events are a courtesy: one that is refused is only logged."""
        log.info(note.message, extra={"taskqueue": str(entry.ref), "reason": note.reason})
        try:
            await self._kube.create_event(entry.ref.namespace, event(entry, note, self._identity))
        except StokerError as error:
            log.warning("an Event was not taken: %s", error, extra={"taskqueue": str(entry.ref)})


def event(entry: Entry, note: Note, identity: str) -> Object:
    """An events.k8s.io/v1 Event."""
    now = datetime.now(UTC)
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{entry.ref.name}-", "namespace": entry.ref.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{GROUP}/{FIELD_MANAGER}",
        "reportingInstance": identity,
        "type": note.kind,
        "reason": note.reason,
        "action": "Scale" if note.reason.startswith("Scaled") else "Reconcile",
        "note": note.message[:LONGEST_NOTE],
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": entry.ref.name,
            "namespace": entry.ref.namespace,
            "uid": entry.findings.uid,
        },
    }


def timestamp() -> str:
    """Now, as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
