"""What another program may put into a queue's inbox, and the message or the dead letter that it becomes."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from stoker.errors import Invalid
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message, check_delay, check_id, check_payload, check_priority
from stoker.rules.settle import Failure

FIELDS = ("task", "payload", "id", "priority", "delay")
MALFORMED = "(malformed inbox entry)"
MAX_NAME = 200
KEPT_BYTES = 1024 * 1024
"""Of each field of a malformed entry so much is kept in its dead letter."""

_WHOLE = re.compile(r"[+-]?\d{1,9}")
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?")


class Arrival(NamedTuple):
    """A task to be added after `delay` seconds, or buried where there is a `failure`."""

    message: Message
    delay: float = 0.0
    failure: Failure | None = None


def read_entry(entry: str, fields: Mapping[bytes, bytes], queue: str, created: int) -> Arrival:
    """The task of the entry with this number, `created` at this moment (epoch ms).

    Never raises: what is wrong becomes a dead letter that says so.
    """
    try:
        return _task(entry, {_text(name, "a field's name"): value for name, value in fields.items()}, queue, created)
    except Invalid as error:
        return dead_letter(id_of_entry(entry), MALFORMED, fields, queue, created, str(error))


def dead_letter(task_id: str, name: str, fields: Mapping[bytes, bytes], queue: str, created: int, why: str) -> Arrival:
    """What becomes of an entry that is no task: nothing of it is lost, and it says why."""
    kept = msgspec.Raw(msgspec.json.encode({_shown(name): _shown(value) for name, value in fields.items()}))
    return Arrival(Message(task_id, name, kept, queue, created), failure=Failure("MalformedEntry", why))


def id_of_entry(entry: str) -> str:
    """The id of a task that brings none, so that its sender knows it from the answer to XADD."""
    return f"inbox-{entry}"


def _task(entry: str, fields: dict[str, bytes], queue: str, created: int) -> Arrival:
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise Invalid(f"unknown fields {', '.join(unknown)[:MAX_NAME]}: an entry has {', '.join(FIELDS)}")
    message = Message(
        id=check_id(_text(fields["id"], "id")) if "id" in fields else id_of_entry(entry),
        task=_name(fields.get("task", b"")),
        payload=_payload(fields.get("payload", b"{}")),
        queue=queue,
        created=created,
        priority=check_priority(int(_number(_WHOLE, fields.get("priority", b"0"), "priority"))),
    )
    return Arrival(message, check_delay(float(_number(_NUMBER, fields.get("delay", b"0"), "delay in seconds"))))


def _name(value: bytes) -> str:
    name = _text(value, "task")
    if not name:
        raise Invalid("the field task is missing: it names the function to run")
    if len(name) > MAX_NAME:
        raise Invalid(f"the task's name has {len(name)} characters, at most {MAX_NAME} are allowed")
    return name


def _payload(value: bytes) -> msgspec.Raw:
    if len(value) > MAX_PAYLOAD_BYTES:
        raise Invalid(f"the payload has {len(value)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed: pass a reference instead")
    try:
        compact = msgspec.json.format(value, indent=-1)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"the payload is not JSON: {error}") from error
    return check_payload(compact)


def _number(pattern: re.Pattern[str], value: bytes, what: str) -> str:
    text = _text(value, what)
    if not pattern.fullmatch(text):
        raise Invalid(f"bad {what} {text[:MAX_NAME]!r}: write a number")
    return text


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{what} is not UTF-8: {error.reason}") from error


def _shown(value: bytes) -> str:
    text = value[:KEPT_BYTES].decode(errors="backslashreplace")
    return text if len(value) <= KEPT_BYTES else f"{text}... ({len(value)} bytes)"
