"""Reads the facts that `rules/why.py` explains, in the round trip that reads the task."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stoker.queue.keys import Keys
from stoker.queue.records import TaskStatus
from stoker.queue.scripts import ScriptCall
from stoker.rules.why import Facts, WorkerInfo

WORKERS_LISTED = 100
HOLDERS_LISTED = 20
_info = msgspec.json.Decoder(WorkerInfo)
_versions = msgspec.json.Decoder(dict[str, int])


def why_call(keys: Keys, task_id: str) -> ScriptCall:
    """The call that reads what a task waits for."""
    return ScriptCall("why", keys, [task_id, WORKERS_LISTED, HOLDERS_LISTED])


def facts_of(status: TaskStatus) -> Facts:
    """What the task itself shows; `with_circumstances` adds what it waits for."""
    failure = status.failure
    return Facts(
        status.id,
        status.task,
        status.queue,
        status.state,
        now=0,
        at=status.at,
        parked=status.parked is not None,
        unclaimed=status.unclaimed,
        worker=status.worker,
        attempts=status.attempts,
        losses=status.losses,
        failure=f"{failure.type}: {failure.message}" if failure else None,
        history=tuple(status.history),
    )


def with_circumstances(facts: Facts, reply: Sequence[Any]) -> Facts:
    """Adds to the facts of a task those of the reply to `why_call`."""
    now, paused, back_at, ahead, suspect, overdue, cancel_at, rate, infos, workers, key, most, holders, *announced = reply
    names = _names(*announced)
    return msgspec.structs.replace(
        facts,
        now=now,
        paused=bool(paused),
        back_at=back_at or None,
        ahead=ahead if ahead >= 0 else None,
        suspect=bool(suspect),
        overdue=overdue,
        cancel_at=cancel_at or None,
        rate=rate / 1000,
        infos=tuple(_read(info, names) for info in infos if info),
        workers=workers,
        key=key.decode() or None,
        most=most,
        holders=tuple(task_id.decode() for task_id in holders),
    )


def _names(templates: Sequence[bytes], announced: Sequence[bytes]) -> dict[str, frozenset[str] | None]:
    """The names that each template has announced; None where it may know any."""
    return {template.decode(): _known(names) for template, names in zip(templates, announced, strict=True)}


def _known(names: bytes) -> frozenset[str] | None:
    try:
        return frozenset(_versions.decode(names)) if names else None
    except msgspec.MsgspecError:  # a worker of another version, or another program
        return None


def _read(info: bytes, names: Mapping[str, frozenset[str] | None]) -> WorkerInfo:
    try:
        found = _info.decode(info)
    except msgspec.MsgspecError:
        return WorkerInfo()
    return msgspec.structs.replace(found, tasks=names.get(found.template)) if found.template else found
