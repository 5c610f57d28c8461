"""Decode and validate posted tasks: bytes in, `TaskCall` or a refusal out. Large ones in steps, between which others are served."""

import asyncio
import math
import re
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import TypeVar

import msgspec
from msgspec import Raw

from stoker.errors import Invalid
from stoker.gateway.json_shape import TooDeep, TooMany, check_shape
from stoker.gateway.limits import MAX_TASK_BYTES
from stoker.gateway.problems import FieldError, InvalidFields, Refusal
from stoker.gateway.requests import TaskRequest
from stoker.rules.call import TaskCall
from stoker.rules.message import MAX_PAYLOAD_BYTES, check_payload
from stoker.rules.request import ConcurrencyRequest, RetryRequest, check_either_or

A = TypeVar("A")
B = TypeVar("B")
MAX_DEPTH = 32
"""Levels of a payload."""
MAX_BATCH_TASKS = 1000
SHOWN_ERRORS = 20
STEP = 0.005
"""Seconds after which others are served, before the next task of a batch."""
_AT = re.compile(r"(?P<what>.*) - at `\$\.?(?P<field>.*)`", re.DOTALL)
_NAMED = re.compile(r"Object (?:missing required|contains unknown) field `(?P<field>.*)`")


_task = msgspec.json.Decoder(TaskRequest)
_batch = msgspec.json.Decoder(list[Raw])


def checked(field: str, check: Callable[[A], B], value: A) -> B:
    """Apply `check` to a field's value. Its Invalid becomes an InvalidFields of `field`; for "", of the field that it names."""
    try:
        return check(value)
    except Invalid as error:
        raise InvalidFields([FieldError(field or error.field, str(error))]) from error


async def read_task(body: bytes | bytearray) -> TaskCall:
    """One task. Raises Refusal for invalid JSON or a body too large, InvalidFields for invalid fields."""
    try:
        await _check_shape(body, MAX_DEPTH + 1)
    except TooDeep:
        raise InvalidFields([_depth_error()]) from None
    return _read(body)


async def read_batch(body: bytes | bytearray) -> list[TaskCall]:
    """Many tasks, all checked. Raises as `read_task`, naming up to SHOWN_ERRORS invalid tasks."""
    try:
        await _check_shape(body, MAX_DEPTH + 2, MAX_BATCH_TASKS)
    except TooDeep as error:
        raise InvalidFields([_within(error.item, _depth_error())]) from None
    except TooMany:
        raise InvalidFields(
            [FieldError("", f"send a list of 1 to {MAX_BATCH_TASKS} tasks, not {MAX_BATCH_TASKS + 1} or more")]
        ) from None
    items = _decode(_batch, body)
    if not items:
        raise _count_error("0")
    calls: list[TaskCall] = []
    errors: list[FieldError] = []
    began = time.perf_counter()
    for at, item in enumerate(items):
        if time.perf_counter() - began > STEP:
            await asyncio.sleep(0)
            began = time.perf_counter()
        try:
            calls.append(_read(bytes(item)))
        except InvalidFields as error:
            errors += [_within(at, part) for part in error.errors]
        except Refusal as error:
            raise Refusal(error.status, f"[{at}]: {error}", error.name) from error
    if errors:
        raise InvalidFields(errors[:SHOWN_ERRORS])
    return calls


async def _check_shape(body: bytes | bytearray, depth: int, items: float = math.inf) -> None:
    try:
        await check_shape(body, depth, items)
    except UnicodeDecodeError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not UTF-8: {error}", "not-json") from error


def _read(body: bytes | bytearray) -> TaskCall:
    if len(body) > MAX_TASK_BYTES:
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the task has more than {MAX_TASK_BYTES} bytes", "too-large")
    return _call(_decode(_task, body))


def _decode(decoder: "msgspec.json.Decoder[A]", body: bytes | bytearray) -> A:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidFields([_field_error(str(error))]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}", "not-json") from error


def _call(request: TaskRequest) -> TaskCall:
    given = {field for field in request.__struct_fields__ if getattr(request, field) is not None}
    if not request.delay:
        given.discard("delay")  # the default of what cannot be null
    checked("", check_either_or, given)
    payload = _payload(request.payload)
    call = TaskCall(
        task=request.task,
        queue=request.queue,
        payload=payload,
        priority=request.priority,
        delay=request.delay,
        run_at=_seconds(request.run_at),
        id=request.id,
        max_retries=request.max_retries,
        retry=_maybe("retry", RetryRequest.backoff, request.retry),
        timeout=request.timeout,
        soft_timeout=request.soft_timeout,
        expires=request.expires or 0.0,
        expires_at=_seconds(request.expires_at),
        headers=request.headers,
        idempotency_key=request.idempotency_key,
        claim=_maybe("unique.key", lambda unique: unique.claim(request.task, bytes(payload)), request.unique),
        limit=_maybe("concurrency.key", ConcurrencyRequest.most, request.concurrency),
        durability=request.durability,
        version=request.version,
    )
    checked("", TaskCall.check, call)
    return call


def _maybe(field: str, check: Callable[[A], B], value: A | None) -> B | None:
    return None if value is None else checked(field, check, value)


def _seconds(moment: datetime | None) -> float:
    # 0 means unset: a time in the far past becomes the smallest one set.
    return max(0.001, moment.timestamp()) if moment else 0.0


def _payload(raw: Raw) -> Raw:
    """Compact JSON, so that formatting does not make the same task another one."""
    compact = msgspec.json.format(bytes(raw), indent=-1)
    if len(compact) > MAX_PAYLOAD_BYTES:
        detail = f"the payload has {len(compact)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed: pass a reference instead"
        raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, "too-large")
    return checked("payload", check_payload, compact)


def _field_error(message: str) -> FieldError:
    """The field that a msgspec error names: by path, or as missing or unknown."""
    if at := _AT.fullmatch(message):
        return FieldError(at["field"], at["what"])
    if named := _NAMED.fullmatch(message):
        return FieldError(named["field"], message)
    return FieldError("", message)


def _within(at: int, error: FieldError) -> FieldError:
    return FieldError(f"[{at}].{error.field}" if error.field else f"[{at}]", error.detail)


def _count_error(found: str) -> InvalidFields:
    return InvalidFields([FieldError("", f"send a list of 1 to {MAX_BATCH_TASKS} tasks, not {found}")])


def _depth_error() -> FieldError:
    return FieldError("payload", f"nested deeper than {MAX_DEPTH} levels: flatten it, or pass a reference instead")
