"""Limits of requests: bytes of a body and of all bodies under way, and the time to send one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import Request
from starlette.requests import ClientDisconnect

from stoker.gateway.json_shape import STEP
from stoker.gateway.problems import Refusal
from stoker.rules.message import MAX_PAYLOAD_BYTES

MAX_TASK_BYTES = MAX_PAYLOAD_BYTES + 16 * 1024  # the payload, and room for the fields around it
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_BODIES_BYTES = 64 * 1024 * 1024
"""Bytes of all bodies that have come and are not answered yet."""
BODY_WITHIN = 30.0


class Bodies:
    """The bodies of all requests under way."""

    def __init__(self, limit: int = MAX_BODIES_BYTES) -> None:
        self._limit = limit
        self._held = 0
        self._parsing = asyncio.Lock()

    @asynccontextmanager
    async def json(self, request: Request, limit: int) -> AsyncIterator[bytearray]:
        """The body, counted as it arrives, since a chunked body declares no length. It counts until the block ends.

        Raises Refusal: 415 unless declared as JSON, 413 over `limit` bytes, 408 after BODY_WITHIN seconds, 503 while all bodies
        together take too much.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # Another site's page can make a browser post text here, but not JSON: this is the CSRF guard.
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send JSON with the header Content-Type: application/json")
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(BODY_WITHIN):
                    await self._read(request, limit, body)
            except (TimeoutError, ClientDisconnect):
                raise Refusal(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {BODY_WITHIN:g} s") from None
            yield body
        finally:
            self._held -= len(body)

    @asynccontextmanager
    async def turn(self, body: bytearray) -> AsyncIterator[None]:
        """Parse one large body at a time: their steps would add up to one long step of the event loop."""
        if len(body) <= STEP:
            yield
        else:
            async with self._parsing:
                yield

    async def _read(self, request: Request, limit: int, body: bytearray) -> None:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(limit)
        async for chunk in request.stream():
            if self._held + len(chunk) > self._limit:
                detail = "the bodies of all requests under way take too much memory: retry"
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, detail, "too-busy", passing=True)
            self._held += len(chunk)
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)


def _too_large(limit: int) -> Refusal:
    detail = f"the body has more than {limit} bytes: pass a reference to large data instead, or send fewer tasks at once"
    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, "too-large")
