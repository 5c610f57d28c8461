"""What happens when a task is dead for good: its story, and the handlers that are enqueued with it.

The script that buries a task adds an entry to the outbox in the same step (`queue/lua/_handlers.lua`); the worker that relays it
enqueues the handlers. Their ids come from the task's and the entry's, so each burial has its own, once.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from stoker.errors import Invalid
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message, decode
from stoker.rules.settle import Failure
from stoker.rules.workflow import Origin, OutboxEntry, TaskStep, load_onward, load_step

MOST_HANDLERS = 20
"""That one call may name in `on_failure`."""
LONGEST_STEP = 8192
"""Bytes of an announced handler, with the options of its declaration."""
_NAMES = {b"dead", b"envelope", b"failure", b"cause", b"attempt", b"at", b"hook"}
_US = "\x1f"
_failure = msgspec.json.Decoder(Failure)
_payload = msgspec.json.Decoder(dict[str, Any])


class DeathCause(StrEnum):
    """Why a task is dead."""

    FAILED = "failed"  # its retries are used up
    FATAL = "fatal"  # no retry could have helped: it raised Dead, or its arguments do not fit
    LOST = "lost"  # with its worker, too often
    UNCLAIMED = "unclaimed"  # no worker knew it for too long


class DeadTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """The story of a dead task, which its handlers take as an argument.

    `at`: when it died, in epoch ms of Redis' clock. `attempts`: how often it ran since it was enqueued or redriven. `arguments`:
    None where handler and story together would have more than 256 KiB.
    """

    id: str
    task: str
    queue: str
    cause: DeathCause
    at: int
    attempts: int
    failure: Failure
    arguments: dict[str, Any] | None = None
    headers: dict[str, str] = {}
    schedule: str | None = None
    scheduled_for: int | None = None


class Burial(msgspec.Struct, frozen=True):
    """An entry of the outbox for a dead task. `number`: the entry's."""

    number: str
    story: DeadTask
    trace: dict[str, str]
    steps: tuple[TaskStep, ...]

    def entries(self) -> Iterator[OutboxEntry]:
        """What begins each handler. Its key with the handler's id is unique to the burial, or to a group's first one."""
        origin = Origin(self.story.at, self.trace)
        for step in self.steps:
            yield OutboxEntry("handler", origin, (step,), None, _story_for(step, self.story))


def read_burial(number: str, fields: Mapping[bytes, bytes]) -> Burial:
    """Raises Invalid for malformed fields."""
    if missing := _NAMES - fields.keys():
        raise Invalid(f"not an entry of an outbox: it has no {', '.join(sorted(name.decode() for name in missing))}")
    message = decode(fields[b"envelope"])
    try:
        cause, attempts, at = DeathCause(fields[b"cause"].decode()), int(fields[b"attempt"]), int(fields[b"at"])
    except ValueError as error:
        raise Invalid(f"the burial of task {message.id} cannot be read: {error}") from error
    story = DeadTask(
        message.id,
        message.task,
        message.queue,
        cause,
        at,
        attempts,
        _failure_of(fields[b"failure"]),
        _arguments(message.payload),
        message.headers,
        message.schedule,
        message.scheduled_for,
    )
    steps = () if message.handles is not None else tuple(_handlers(message, number, fields[b"hook"]))
    return Burial(number, story, message.trace, steps)


def handler_id(task_id: str, entry: str, at: int) -> str:
    """The id of a burial's handler: number 0 is its name's, the others are those of its call. `_handlers.lua` makes the same."""
    return hashlib.sha1(_US.join((task_id, entry, str(at))).encode(), usedforsecurity=False).hexdigest()


def _handlers(message: Message, entry: str, hook: bytes) -> Iterator[TaskStep]:
    if hook:
        yield _numbered(load_step(hook), message.id, entry, 0)
    for at, step in enumerate(load_onward(message.onward).on_failure[:MOST_HANDLERS], 1):
        yield _numbered(step, message.id, entry, at)


def _numbered(step: TaskStep, task_id: str, entry: str, at: int) -> TaskStep:
    """With its id, unless it has one: that of a group comes once, whichever member dies first."""
    own = step.message.id or handler_id(task_id, entry, at)
    return replace(step, message=replace(step.message, id=own, handles=task_id))


def _story_for(step: TaskStep, story: DeadTask) -> Raw:
    value = msgspec.json.encode(story)
    if len(value) + len(bytes(step.message.payload)) > MAX_PAYLOAD_BYTES:
        value = msgspec.json.encode(replace(story, arguments=None))
    return Raw(value)


def _failure_of(body: bytes) -> Failure:
    try:
        return _failure.decode(body)
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return Failure("Unreadable", body[:300].decode(errors="replace"))


def _arguments(payload: bytes) -> dict[str, Any] | None:
    with suppress(ValueError, msgspec.MsgspecError, RecursionError):
        return _payload.decode(payload)
    return None
