"""What is recorded of the autoscaler: its decisions and the estimates behind them, where they change. Pure."""

from typing import Annotated

import msgspec
from msgspec import Meta

from stoker.autoscale.decide import Decision, Demand

FORMAT = 1
MOST_KEPT = 500
"""Records per queue."""
REASONS_APART = 10.0
"""Seconds between two records of the same number of replicas: reasons may alternate every second."""

_Replicas = Annotated[int, Meta(ge=0, le=1_000_000)]
_Tasks = Annotated[int, Meta(ge=0, le=1 << 53)]


class ScalingRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision: replicas before and after, `wanted` before limits and stabilization, and the demand it was made from.

    `error`: why the number could not be set. `service_time`: average seconds of a run. `at`: epoch ms of Redis' clock.
    """

    before: _Replicas
    after: _Replicas
    wanted: _Replicas
    reason: Annotated[str, Meta(max_length=64)]
    ready: _Tasks = 0
    running: _Tasks = 0
    due: _Tasks = 0
    service_time: Annotated[float, Meta(ge=0, le=1e12)] = 0.0
    throttled: bool = False
    error: Annotated[str, Meta(max_length=500)] = ""
    at: int = 0


class _Stored(msgspec.Struct):
    v: int
    decision: ScalingRecord


_stored = msgspec.json.Decoder(_Stored)


def scaling_record(decision: Decision, before: int, demand: Demand, error: str = "") -> ScalingRecord:
    """The record of a decision."""
    return ScalingRecord(
        before,
        decision.replicas,
        decision.wanted,
        str(decision.reason),
        demand.ready,
        demand.running,
        demand.due,
        demand.service_time,
        demand.throttled,
        error[:500],
    )


def worth_recording(new: ScalingRecord, last: ScalingRecord | None, seconds: float) -> bool:
    """Whether a decision says anything that the last record, made `seconds` ago, does not: its demand alone does not count."""
    if last is None or (new.after, new.error) != (last.after, last.error):
        return True
    return new.reason != last.reason and seconds >= REASONS_APART


def encode_record(record: ScalingRecord) -> bytes:
    """As it is stored."""
    return msgspec.json.encode({"v": FORMAT, "decision": record})


def decode_record(stored: bytes, at: int) -> ScalingRecord | None:
    """A stored record; None for what no Stoker of this version wrote."""
    try:
        found = _stored.decode(stored)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return msgspec.structs.replace(found.decision, at=at) if found.v == FORMAT else None
