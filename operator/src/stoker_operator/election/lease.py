"""The Lease of an election, as values. Pure.

The rules are those of client-go (tools/leaderelection): the times in the Lease are for people, since clocks of machines differ. A
candidate compares only what it has seen change, on its own monotonic clock.
"""

import math
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from stoker_operator.state.ref import FIELD_MANAGER, MANAGED_BY, Object


class Timing(NamedTuple):
    """Seconds. `duration`: how long a candidate waits after the last renewal that it saw. `deadline`: after which a leader that
    could not renew stops. `retry`: between attempts. `attempt`: for one attempt.
    """

    duration: float
    deadline: float
    retry: float
    attempt: float

    @classmethod
    def of(cls, duration: float) -> "Timing":
        """In the proportions of client-go: 15, 10 and 2 seconds."""
        return cls(duration, duration * 2 / 3, duration * 2 / 15, duration / 3)


class Record(Struct, frozen=True):
    """What a Lease says. `holder` is empty after a release. `duration` in seconds."""

    holder: str = ""
    duration: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0


class Sighting(NamedTuple):
    """A record, and when it was first seen: monotonic seconds."""

    record: Record
    at: float


def record_of(lease: Object) -> Record:
    """The record of a Lease; empty fields where it has none."""
    spec = lease.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        duration=spec.get("leaseDurationSeconds") or 0,
        acquired=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
    )


def with_record(lease: Object, record: Record) -> Object:
    """The Lease with another record, at the same resourceVersion: it is stored only if it is still the one that was read."""
    spec = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration,
        "acquireTime": record.acquired or None,
        "renewTime": record.renewed or None,
        "leaseTransitions": record.transitions,
    }
    return {**lease, "spec": {**(lease.get("spec") or {}), **spec}}


def new_lease(namespace: str, name: str) -> Object:
    """A Lease as its first holder creates it, without its record."""
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: FIELD_MANAGER}}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}


def sighted(before: Sighting | None, record: Record, now: float) -> Sighting:
    """The same record keeps the moment at which it was first seen."""
    return before if before is not None and before.record == record else Sighting(record, now)


def free(seen: Sighting, now: float) -> bool:
    """Whether a candidate may take the Lease: it was released, or its holder has not renewed it for its whole duration."""
    return not seen.record.holder or now - seen.at >= seen.record.duration


def taken(before: Record, identity: str, timing: Timing, now: datetime) -> Record:
    """The record of a new holder."""
    at = _text(now)
    return Record(identity, math.ceil(timing.duration), at, at, before.transitions + 1 if before.renewed else 0)


def renewed(before: Record, now: datetime) -> Record:
    """The record of the same holder, later."""
    return replace(before, renewed=_text(now))


def released(before: Record, now: datetime) -> Record:
    """The record of no holder: any candidate may take it at once."""
    return replace(before, holder="", duration=1, renewed=_text(now))


def _text(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
