"""The fields of an inbox entry, and the task or the dead task that it becomes."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from stoker.errors import Invalid
from stoker.rules.admission import Admission
from stoker.rules.call import TaskCall
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message, check_payload
from stoker.rules.request import (
    MAX_NAME,
    ConcurrencyRequest,
    RetryRequest,
    UniqueRequest,
    check_either_or,
    check_expires,
)
from stoker.rules.settle import Failure

FIELDS = (
    *("task", "payload", "id", "priority", "delay", "run_at", "idempotency_key", "max_retries", "retry", "timeout", "soft_timeout"),
    *("expires", "expires_at", "headers", "unique", "concurrency", "version"),
)
MALFORMED = "(malformed inbox entry)"
MAX_ENTRY_BYTES = MAX_PAYLOAD_BYTES + 64 * 1024
"""Bytes of all names and values of an entry: the payload, and room for the fields beside it."""
MAX_FIELDS = 64
KEPT_BYTES = 1024 * 1024
"""Bytes of each field of an entry that its dead task keeps."""

FIRST_MOMENT = 1_704_067_200_000
"""Epoch ms: 2024, the epoch of the ready line. No entry came before it."""
B = TypeVar("B")

_retry = msgspec.json.Decoder(RetryRequest)
_unique = msgspec.json.Decoder(UniqueRequest)
_concurrency = msgspec.json.Decoder(ConcurrencyRequest)
_headers = msgspec.json.Decoder(dict[str, str])
_WHOLE = re.compile(r"[+-]?\d{1,9}")
_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?")


class Arrival(NamedTuple):
    """What an inbox entry becomes: a task, or with a `failure` a dead one."""

    admission: Admission
    failure: Failure | None = None

    @property
    def id(self) -> str:
        """The task's."""
        return self.admission.message.id


def read_entry(entry: str, fields: Mapping[bytes, bytes], queue: str, created: int) -> Arrival:
    """The task of the entry with this number, `created` in epoch ms. Never raises: a malformed entry becomes a dead task."""
    try:
        return Arrival(_task(entry, {_text(name, "a field's name"): value for name, value in fields.items()}, queue, created))
    except Invalid as error:
        return dead_letter(id_of_entry(entry), MALFORMED, fields, queue, created, str(error))


def oversized(entry: str, shown: Mapping[bytes, bytes], size: int, count: int, queue: str, created: int) -> Arrival:
    """The dead task of an entry that is not read at all: `shown` has the beginnings of its first fields."""
    why = f"the entry has {size} bytes in {count} fields, at most {MAX_ENTRY_BYTES} in {MAX_FIELDS} are allowed: pass a reference"
    return dead_letter(id_of_entry(entry), MALFORMED, shown, queue, created, f"{why}. Its first fields begin as shown")


def dead_letter(task_id: str, name: str, fields: Mapping[bytes, bytes], queue: str, created: int, why: str) -> Arrival:
    """The dead task of a malformed entry: its payload are the entry's fields, its failure says why."""
    kept = msgspec.Raw(msgspec.json.encode({_shown(name): _shown(value) for name, value in fields.items()}))
    return Arrival(Admission(Message(task_id, name, kept, queue, created)), Failure("MalformedEntry", why))


def id_of_entry(entry: str) -> str:
    """The id of a task whose entry names none: its sender knows it from the reply to XADD."""
    return f"inbox-{entry}"


def _task(entry: str, fields: dict[str, bytes], queue: str, created: int) -> Admission:
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise Invalid(f"unknown fields {', '.join(unknown)[:MAX_NAME]}: an entry has {', '.join(FIELDS)}")
    check_either_or(fields)
    task, payload = _name(fields.get("task", b"")), _payload(fields.get("payload", b"{}"))
    retry, unique = _maybe(fields, "retry", _retry.decode), _maybe(fields, "unique", _unique.decode)
    concurrency = _maybe(fields, "concurrency", _concurrency.decode)
    call = TaskCall(
        task=task,
        queue=queue,
        payload=payload,
        priority=_maybe(fields, "priority", _whole) or 0,
        delay=_maybe(fields, "delay", _amount) or 0.0,
        run_at=_maybe(fields, "run_at", _moment) or 0.0,
        id=_maybe(fields, "id", str),
        max_retries=_maybe(fields, "max_retries", _whole),
        retry=retry.backoff() if retry else None,
        timeout=_maybe(fields, "timeout", _amount),
        soft_timeout=_maybe(fields, "soft_timeout", _amount),
        expires_at=_expiry(entry, fields, created),
        headers=_maybe(fields, "headers", _headers.decode) or {},
        idempotency_key=_maybe(fields, "idempotency_key", str),
        claim=unique.claim(task, bytes(payload)) if unique else None,
        limit=concurrency.most() if concurrency else None,
        version=_maybe(fields, "version", _whole) or 0,
    )
    call.check()
    return call.admission(lambda: id_of_entry(entry), created, {})


def _expiry(entry: str, fields: dict[str, bytes], created: int) -> float:
    """In epoch seconds; 0 is never.

    `expires` counts from the moment in the entry's number, when it came: it may have waited for a worker since. A number that
    the sender made up says nothing.
    """
    if (moment := _maybe(fields, "expires_at", _moment)) is not None:
        return moment
    if (seconds := _maybe(fields, "expires", _amount)) is None:
        return 0.0
    came = int(entry.partition("-")[0])
    return (came if FIRST_MOMENT < came <= created else created) / 1000 + check_expires(seconds)


def _maybe(fields: dict[str, bytes], name: str, read: Callable[[str], B]) -> B | None:
    if name not in fields:
        return None
    text = _text(fields[name], name)
    try:
        return read(text)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"bad {name} {text[:MAX_NAME]!r}: {error}") from error


def _whole(text: str) -> int:
    return int(_number(_WHOLE, text))


def _amount(text: str) -> float:
    return float(_number(_NUMBER, text))


def _number(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError("write a number")
    return text


def _moment(text: str) -> float:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it has no zone: write it like 2030-01-31T09:00:00Z")
    return max(0.001, moment.timestamp())


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


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{what} is not UTF-8: {error.reason}") from error


def _shown(value: bytes) -> str:
    text = value[:KEPT_BYTES].decode(errors="backslashreplace")
    return text if len(value) <= KEPT_BYTES else f"{text}... ({len(value)} bytes)"
