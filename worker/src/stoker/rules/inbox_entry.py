"""What another program may put into a queue's inbox, and the message or the dead letter that it becomes."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from stoker.errors import LONGEST, Invalid
from stoker.rules.admission import Admission
from stoker.rules.message import (
    MAX_PAYLOAD_BYTES,
    Message,
    check_delay,
    check_headers,
    check_id,
    check_key,
    check_payload,
    check_priority,
    check_retries,
    check_timeouts,
    check_version,
    id_of_key,
)
from stoker.rules.request import ConcurrencyRequest, RetryRequest, UniqueRequest
from stoker.rules.settle import Failure

FIELDS = (
    *("task", "payload", "id", "priority", "delay", "run_at", "idempotency_key", "max_retries", "retry", "timeout", "soft_timeout"),
    *("expires", "expires_at", "headers", "unique", "concurrency", "version"),
)
EITHER_OR = (("delay", "run_at"), ("id", "idempotency_key"), ("expires", "expires_at"), ("retry", "max_retries"))
MALFORMED = "(malformed inbox entry)"
MAX_NAME = 200
KEPT_BYTES = 1024 * 1024
"""Of each field of a malformed entry so much is kept in its dead letter."""

FIRST_MOMENT = 1_704_067_200_000
"""The epoch of places in line, 2024: no entry came before it."""
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
    """The task of the entry with this number, `created` at this moment (epoch ms).

    Never raises: what is wrong becomes a dead letter that says so.
    """
    try:
        return Arrival(_task(entry, {_text(name, "a field's name"): value for name, value in fields.items()}, queue, created))
    except Invalid as error:
        return dead_letter(id_of_entry(entry), MALFORMED, fields, queue, created, str(error))


def dead_letter(task_id: str, name: str, fields: Mapping[bytes, bytes], queue: str, created: int, why: str) -> Arrival:
    """What becomes of an entry that is no task: nothing of it is lost, and it says why."""
    kept = msgspec.Raw(msgspec.json.encode({_shown(name): _shown(value) for name, value in fields.items()}))
    return Arrival(Admission(Message(task_id, name, kept, queue, created)), Failure("MalformedEntry", why))


def id_of_entry(entry: str) -> str:
    """The id of a task that brings none, so that its sender knows it from the answer to XADD."""
    return f"inbox-{entry}"


def _task(entry: str, fields: dict[str, bytes], queue: str, created: int) -> Admission:
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise Invalid(f"unknown fields {', '.join(unknown)[:MAX_NAME]}: an entry has {', '.join(FIELDS)}")
    for this, other in EITHER_OR:
        if this in fields and other in fields:
            raise Invalid(f"give either {this} or {other}, not both")
    task, payload = _name(fields.get("task", b"")), _payload(fields.get("payload", b"{}"))
    timeout, soft_timeout = _maybe(fields, "timeout", _amount), _maybe(fields, "soft_timeout", _amount)
    check_timeouts(soft_timeout, timeout)
    retries, retry = _maybe(fields, "max_retries", _whole), _maybe(fields, "retry", _retry.decode)
    unique, concurrency = _maybe(fields, "unique", _unique.decode), _maybe(fields, "concurrency", _concurrency.decode)
    message = Message(
        id=_id(entry, fields, queue),
        task=task,
        payload=payload,
        queue=queue,
        created=created,
        priority=check_priority(_maybe(fields, "priority", _whole) or 0),
        max_retries=retries if retries is None else check_retries(retries),
        timeout=timeout,
        version=check_version(_maybe(fields, "version", _whole) or 0),
        retry=retry.backoff() if retry else None,
        soft_timeout=soft_timeout,
        expires=_expiry(entry, fields, created),
        headers=check_headers(_maybe(fields, "headers", _headers.decode) or {}),
    )
    return Admission(
        message,
        delay=check_delay(_maybe(fields, "delay", _amount) or 0.0),
        run_at=_maybe(fields, "run_at", _moment) or 0.0,
        claim=unique.claim(task, bytes(payload)) if unique else None,
        limit=concurrency.most() if concurrency else None,
    )


def _id(entry: str, fields: dict[str, bytes], queue: str) -> str:
    if "idempotency_key" in fields:
        return id_of_key(queue, check_key(_text(fields["idempotency_key"], "idempotency_key")))
    return check_id(_text(fields["id"], "id")) if "id" in fields else id_of_entry(entry)


def _expiry(entry: str, fields: dict[str, bytes], created: int) -> int | None:
    """Counted from the entry's number, which is when it came: it may have waited for a worker since. A made-up one says nothing."""
    if (moment := _maybe(fields, "expires_at", _moment)) is not None:
        return max(1, round(moment * 1000))
    if (seconds := _maybe(fields, "expires", _amount)) is None:
        return None
    if not 0 < seconds <= LONGEST:
        raise Invalid(f"bad expires {seconds!r}: use a number of seconds above 0")
    came = int(entry.partition("-")[0])
    return (came if FIRST_MOMENT < came <= created else created) + round(seconds * 1000)


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
