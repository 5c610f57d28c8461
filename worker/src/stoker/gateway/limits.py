"""Limits of a request: bytes of the body, time to send it, JSON depth."""

import asyncio
import re
from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from stoker.gateway.problems import Refusal
from stoker.rules.message import MAX_PAYLOAD_BYTES

MAX_DEPTH = 32
MAX_TASK_BYTES = MAX_PAYLOAD_BYTES + 16 * 1024  # the payload, and room for the fields around it
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_BATCH_TASKS = 1000
BODY_WITHIN = 30.0

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


async def json_body(request: Request, limit: int) -> bytes:
    """The body, counted as it arrives, since a chunked body declares no length.

    Raises Refusal: 415 unless declared as JSON, 413 over `limit` bytes, 408 after BODY_WITHIN seconds, 400 unless UTF-8.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # Another site's page can make a browser post text here, but not JSON: this is the CSRF guard.
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON with the header Content-Type: application/json")
    try:
        async with asyncio.timeout(BODY_WITHIN):
            body = await _read(request, limit)
    except (TimeoutError, ClientDisconnect):
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_WITHIN:g} s") from None
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the body is not UTF-8: {error}", "not-json") from error
    return body


def too_deep(text: bytes) -> bool:
    """Whether well-formed JSON nests deeper than MAX_DEPTH. Linear time, no recursion."""
    brackets = _STRING.sub(b"", text).translate(_BRACKETS, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each round removes the innermost pairs
        brackets = brackets.replace(b"()", b"")
    return bool(brackets)


async def _read(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> Refusal:
    detail = f"the body has more than {limit} bytes: pass a reference to large data instead, or send fewer tasks at once"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, "too-large")
