"""What may be posted as a task, and how it becomes a call. Pure: bytes in, `TaskCall` or a refusal out."""

import re
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from stoker.client import TaskCall
from stoker.errors import Invalid
from stoker.gateway.limits import MAX_BATCH_TASKS, MAX_DEPTH, too_deep
from stoker.gateway.problems import FieldError, InvalidFields, Refusal
from stoker.rules.message import (
    MAX_KEY,
    MAX_PAYLOAD_BYTES,
    MAX_PRIORITY,
    MIN_PRIORITY,
    check_id,
    check_key,
    check_payload,
    check_queue,
)
from stoker.rules.unique import DAY, Claim, Unique, Until

A = TypeVar("A")
B = TypeVar("B")
SHOWN_ERRORS = 20
TEN_YEARS = 10 * 366 * 86400
_AT = re.compile(r"(?P<what>.*) - at `\$\.?(?P<field>.*)`", re.DOTALL)
_NAMED = re.compile(r"Object (?:missing required|contains unknown) field `(?P<field>.*)`")


class UniqueRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Enqueue only if no task of the same kind waits (until it has started) or waits and runs (until it is done)."""

    until: Annotated[Until, Meta(description="When the next one may be enqueued.")] = "done"
    ttl: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds from when it is due, after which it keeps nobody out.")] = (
        DAY
    )
    key: Annotated[str, Meta(min_length=1, max_length=MAX_KEY, description="What is the same; without it, the payload.")] | None = (
        None
    )


class TaskRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One task to enqueue. Give `id` or `idempotency_key` to make it safe to send again: the same task is enqueued once."""

    task: Annotated[str, Meta(min_length=1, max_length=200, description="The task's name.", examples=["send_email"])]
    payload: Annotated[
        Raw,
        Meta(
            description="Its named arguments.", extra_json_schema={"type": "object", "default": {}, "examples": [{"to": "a@b.c"}]}
        ),
    ] = msgspec.field(default_factory=lambda: Raw(b"{}"))
    queue: Annotated[str, Meta(description="The queue it waits in.")] = "default"
    priority: Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY, description="Higher runs first.")] = 0
    delay: Annotated[float, Meta(ge=0, le=TEN_YEARS, description="Seconds from now; or give run_at.")] = 0.0
    run_at: Annotated[datetime, Meta(tz=True, description="RFC 3339, with its zone.")] | None = None
    id: Annotated[str, Meta(description="An id of your own: 1 to 128 printable ASCII characters.")] | None = None
    idempotency_key: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_KEY,
                description="Instead of an id: any text that stands for this task in its queue, for as long as the task is kept.",
            ),
        ]
        | None
    ) = None
    unique: Annotated[UniqueRequest, Meta(description="Only one of its kind.")] | None = None
    max_retries: Annotated[int, Meta(ge=0, le=1000, description="Overrides the task's own.")] | None = None
    timeout: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds it may run; overrides the task's own.")] | None = None


_task = msgspec.json.Decoder(TaskRequest)
_batch = msgspec.json.Decoder(list[Raw])


def checked(field: str, check: Callable[[A], B], value: A) -> B:
    """What `check` makes of a field's value. Its Invalid becomes an InvalidFields that names the field."""
    try:
        return check(value)
    except Invalid as error:
        raise InvalidFields([FieldError(field, str(error))]) from error


def read_task(body: bytes) -> TaskCall:
    """One task. Raises Refusal for what is not JSON or too large, InvalidFields for what does not fit."""
    return _call(_decode(_task, body))


def read_batch(body: bytes) -> list[TaskCall]:
    """Many tasks, all checked. Raises as `read_task`, naming every task at fault up to SHOWN_ERRORS of them."""
    items = _decode(_batch, body)
    if not 1 <= len(items) <= MAX_BATCH_TASKS:
        raise InvalidFields([FieldError("", f"send a list of 1 to {MAX_BATCH_TASKS} tasks, not {len(items)}")])
    calls: list[TaskCall] = []
    errors: list[FieldError] = []
    for at, item in enumerate(items):
        try:
            calls.append(read_task(bytes(item)))
        except InvalidFields as error:
            errors += [_within(at, part) for part in error.errors]
        except Refusal as error:
            raise Refusal(error.status, f"[{at}]: {error}", error.name) from error
    if errors:
        raise InvalidFields(errors[:SHOWN_ERRORS])
    return calls


def _decode(decoder: "msgspec.json.Decoder[A]", body: bytes) -> A:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidFields([_field_error(str(error))]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}", "not-json") from error
    except RecursionError:
        raise InvalidFields([_depth_error()]) from None


def _call(request: TaskRequest) -> TaskCall:
    if request.run_at is not None and request.delay:
        raise InvalidFields([FieldError("run_at", "give either delay or run_at, not both")])
    if request.id is not None and request.idempotency_key is not None:
        raise InvalidFields([FieldError("idempotency_key", "give either id or idempotency_key, not both")])
    payload = _payload(request.payload)
    return TaskCall(
        task=request.task,
        queue=checked("queue", check_queue, request.queue),
        payload=payload,
        priority=request.priority,
        delay=request.delay,
        run_at=max(0.0, request.run_at.timestamp()) if request.run_at else 0.0,
        id=None if request.id is None else checked("id", check_id, request.id),
        max_retries=request.max_retries,
        timeout=request.timeout,
        idempotency_key=(
            None if request.idempotency_key is None else checked("idempotency_key", check_key, request.idempotency_key)
        ),
        claim=None if request.unique is None else _claim(request.unique, request.task, payload),
    )


def _claim(unique: UniqueRequest, task: str, payload: Raw) -> Claim:
    try:
        return Unique(unique.until, unique.ttl, unique.key).claim(task, bytes(payload))
    except Invalid as error:
        raise InvalidFields([FieldError("unique.key", str(error))]) from error


def _payload(raw: Raw) -> Raw:
    """Without blanks, so that the same task written in another style is still the same task."""
    if too_deep(bytes(raw)):
        raise InvalidFields([_depth_error()])
    compact = msgspec.json.format(bytes(raw), indent=-1)
    if len(compact) > MAX_PAYLOAD_BYTES:
        detail = f"the payload has {len(compact)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed: pass a reference instead"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, "too-large")
    return checked("payload", check_payload, compact)


def _field_error(message: str) -> FieldError:
    """Where msgspec says it hurts: in its path, or in the name of a field that is missing or unknown."""
    if at := _AT.fullmatch(message):
        return FieldError(at["field"], at["what"])
    if named := _NAMED.fullmatch(message):
        return FieldError(named["field"], message)
    return FieldError("", message)


def _within(at: int, error: FieldError) -> FieldError:
    return FieldError(f"[{at}].{error.field}" if error.field else f"[{at}]", error.detail)


def _depth_error() -> FieldError:
    return FieldError("payload", f"it nests deeper than {MAX_DEPTH} levels: flatten it, or pass a reference instead")
