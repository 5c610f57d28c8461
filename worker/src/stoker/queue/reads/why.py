"""Reads the facts that `rules/why.py` explains, in the round trip that reads the task."""

from collections.abc import Sequence
from typing import Any

import msgspec

from stoker.queue.keys import Keys
from stoker.queue.records import TaskStatus
from stoker.queue.scripts import ScriptCall
from stoker.rules.why import Facts, WorkerInfo

WORKERS_LISTED = 100
HOLDERS_LISTED = 20
_info = msgspec.json.Decoder(WorkerInfo)


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
        worker=status.worker,
        attempts=status.attempts,
        losses=status.losses,
        failure=f"{failure.type}: {failure.message}" if failure else None,
        history=tuple(status.history),
    )


def with_circumstances(facts: Facts, reply: Sequence[Any]) -> Facts:
    """Adds to the facts of a task those of the reply to `why_call`."""
    now, paused, back_at, ahead, suspect, overdue, cancel_at, rate, infos, workers, key, most, holders = reply
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
        infos=tuple(_read(info) for info in infos if info),
        workers=workers,
        key=key.decode() or None,
        most=most,
        holders=tuple(task_id.decode() for task_id in holders),
    )


def _read(info: bytes) -> WorkerInfo:
    try:
        return _info.decode(info)
    except msgspec.MsgspecError:  # a worker of another version, or another program
        return WorkerInfo()
