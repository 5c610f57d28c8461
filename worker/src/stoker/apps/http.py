"""A ready-made application that calls HTTP endpoints: `stoker worker stoker.apps.http:app`.

One task, `http.request`. STOKER_HTTP_ALLOW is the allow-list of hosts; without it the worker refuses to start. Documented in
docs/how-to/without-python.md.
"""

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, TypedDict

import msgspec

try:
    from aiohttp import (
        ClientError,
        ClientResponse,
        ClientResponseError,
        ClientSession,
        ClientTimeout,
        DummyCookieJar,
        TCPConnector,
        ThreadedResolver,
    )
    from aiohttp.abc import ResolveResult
    from yarl import URL
except ImportError as error:
    raise ImportError(f'missing packages ({error.name}): pip install "stoker[apps]"') from error

from stoker.app.app import Stoker
from stoker.errors import Dead, Invalid
from stoker.rules.allow_list import PORTS, Allowed, Verdict, judge, retry_after
from stoker.rules.message import MAX_PAYLOAD_BYTES
from stoker.task.context import Context
from stoker.task.dependencies import State
from stoker.version import VERSION

ALLOW, ALLOW_NETWORKS, MAX_RESPONSE = "STOKER_HTTP_ALLOW", "STOKER_HTTP_ALLOW_NETWORKS", "STOKER_HTTP_MAX_RESPONSE"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MOST_REDIRECTS = 5
MOST_HEADERS, MOST_HEADER = 50, 1000
"""Headers of a response that are kept, and characters of each."""
SHOWN = 300
_KEEPS_METHOD = frozenset({307, 308})
_REDIRECTS = frozenset({301, 302, 303}) | _KEEPS_METHOD
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"})
"""Headers that frame or route a request: a payload must not set them."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_CHARSETS = frozenset(
    {
        *("utf-8", "utf8", "us-ascii", "ascii", "utf-16", "utf-16le", "utf-16be"),
        *(f"iso-8859-{number}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)),
        *(f"windows-{number}" for number in range(1250, 1259)),
        *("shift_jis", "euc-jp", "iso-2022-jp", "gb2312", "gbk", "gb18030", "big5", "euc-kr", "koi8-r", "koi8-u"),
    }
)
"""Encodings of text that a response may name; another one is read as UTF-8. Python's also decode zlib and punycode."""


class Answer(TypedDict):
    """The response. Header names in lower case; `body` is text.

    It is `truncated` at STOKER_HTTP_MAX_RESPONSE bytes, at the size of a result, and where the connection broke or `timeout` ended.
    """

    status: int
    headers: dict[str, str]
    body: str
    truncated: bool


class UnreachableError(Exception):
    """No response: name resolution failed, connection failed, or timeout."""


class RefusedError(Exception):
    """A response worth a retry: 5xx, 429, 408, 425."""


class Caller:
    """An HTTP session limited to allowed hosts."""

    def __init__(self, session: ClientSession, allowed: Allowed, keeps: int) -> None:
        self.session = session
        self._allowed = allowed
        self._keeps = keeps

    def check(self, url: URL) -> URL:
        """Raises Invalid for a URL that may not be called."""
        if url.scheme not in PORTS or not url.host:
            raise Invalid(f"bad url {str(url)[:SHOWN]!r}: write https://host/path")
        if url.user or url.password:
            raise Invalid("credentials in a url are not sent: use a header")
        self._allowed.check_url(url.scheme, url.raw_host or "", url.port or PORTS[url.scheme])
        return url

    async def read(self, response: ClientResponse, until: float) -> Answer:
        """The response, read only up to the limit and the moment `until`. Raises nothing: the call was made, and has its status."""
        kept, whole = bytearray(), True
        try:
            async with asyncio.timeout_at(until):
                async for chunk in response.content.iter_chunked(16 * 1024):
                    kept += chunk
                    if len(kept) > self._keeps:
                        whole = False
                        break
        except (ClientError, OSError, ValueError):  # TimeoutError among them
            whole = False
        text = bytes(kept[: self._keeps]).decode(_charset(response), errors="replace")
        headers = {_text(name).lower(): _text(value)[:MOST_HEADER] for name, value in list(response.headers.items())[:MOST_HEADERS]}
        return _fitting(Answer(status=response.status, headers=headers, body=text, truncated=not whole))


class PublicOnly(ThreadedResolver):
    """Resolves names to allowed addresses only: the addresses checked are the ones connected to (no DNS rebinding)."""

    def __init__(self, allowed: Allowed) -> None:
        super().__init__()
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises Invalid if any address of the host is not allowed."""
        found = await super().resolve(host, port, family)
        for each in found:
            self._allowed.check_address(ip_address(each["host"].partition("%")[0]), host)
        return found


@asynccontextmanager
async def lifespan(_app: Stoker) -> AsyncIterator[Caller]:
    """The session of one worker process. Raises Invalid without an allow-list."""
    if not os.environ.get(ALLOW, "").strip():
        raise Invalid(f"{ALLOW} is not set: list the hosts that tasks may call, such as api.example.org,*.example.net:8443")
    allowed = Allowed.parse(os.environ[ALLOW], os.environ.get(ALLOW_NETWORKS, ""))
    keeps = int(os.environ.get(MAX_RESPONSE, 64 * 1024))
    connector = TCPConnector(resolver=PublicOnly(allowed), use_dns_cache=False, limit=0)
    # No decompression: a few bytes could become gigabytes.
    async with ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=None),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": f"stoker/{VERSION}"},
    ) as session:
        yield Caller(session, allowed, keeps)


app = Stoker("http", lifespan=lifespan)


@app.task(name="http.request")
async def request(
    url: str,
    ctx: Context,
    caller: State[Caller],
    method: str = "POST",
    headers: dict[str, str] | None = None,
    json: Any = None,
    body: str | None = None,
    expect: list[int] | None = None,
    timeout: float = 30.0,
) -> Answer:
    """Call an endpoint; the result is its response. `timeout`: total seconds.

    Any 2xx (or one of `expect`) succeeds. 5xx, 429, 408, 425 and no response are retried, respecting Retry-After; with any other
    status the task is dead at once. Redirects are followed within the same host only. The header `Idempotency-Key` is the task's
    id, the same in every attempt, unless the payload sets one.
    """
    if method not in METHODS:
        raise Dead(f"bad method {method!r}: use one of {', '.join(sorted(METHODS))}")
    if body is not None and json is not None:
        raise Dead("give either json or a body, not both")
    wanted: dict[str, Any] = {"headers": _headers(headers or {}, ctx.id)}
    wanted |= {"json": json} if json is not None else {"data": body} if body is not None else {}
    started = time.monotonic()
    try:
        answer = await _call(caller, method, URL(url), wanted, asyncio.get_running_loop().time() + timeout)
    except ClientResponseError as error:  # it would come again, and the call was made
        raise Dead(f"{method} was answered with what is no response of HTTP: {error.message}") from error
    except (Invalid, ValueError) as error:  # ValueError: aiohttp's, for a bad url or header
        raise Dead(str(error)) from error
    except TimeoutError as error:
        raise UnreachableError(f"no response within {timeout:g} s") from error
    except (ClientError, OSError) as error:
        raise UnreachableError(str(error) or type(error).__name__) from error
    ctx.log.info("called", extra={"status": answer["status"], "seconds": round(time.monotonic() - started, 3)})
    words = f"{method} answered {answer['status']}: {answer['body'][:SHOWN]}"
    match judge(answer["status"], frozenset(expect or ())):
        case Verdict.AGAIN:
            delay = retry_after(answer["headers"].get("retry-after", ""), datetime.now(UTC))
            raise ctx.retry(delay, words) if delay else RefusedError(words)
        case Verdict.NEVER:
            raise Dead(words)
    return answer


async def _call(caller: Caller, method: str, url: URL, wanted: dict[str, Any], until: float) -> Answer:
    caller.check(url)
    for _ in range(MOST_REDIRECTS + 1):
        async with asyncio.timeout_at(until):
            called = await caller.session.request(method, url, allow_redirects=False, **wanted)
        async with called as response:
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return await caller.read(response, until)
            after = url.join(URL(location))
            if after.origin() != url.origin():
                raise Invalid(f"{method} was redirected to another host, {after.origin()}: call that one directly if intended")
            if response.status not in _KEEPS_METHOD and method not in {"GET", "HEAD"}:
                raise Invalid(f"{method} was redirected with {response.status}, which would make it a GET: call {after}")
            url = after
    raise Invalid(f"{method} was redirected more than {MOST_REDIRECTS} times")


def _headers(given: dict[str, str], task_id: str) -> dict[str, str]:
    if bad := sorted(name for name, value in given.items() if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value)):
        raise Dead(f"the headers {', '.join(map(repr, bad))[:SHOWN]} have characters that HTTP does not allow in names or values")
    if ours := sorted(name for name in given if name.lower() in _OURS):
        raise Dead(f"the headers {', '.join(ours)} must not be set by a payload")
    named = {name.lower() for name in given}
    return given if "idempotency-key" in named else {**given, "Idempotency-Key": task_id}


def _charset(response: ClientResponse) -> str:
    named = (response.charset or "").lower()
    return named if named in _CHARSETS else "utf-8"


def _text(header: str) -> str:
    """A header that JSON can carry: aiohttp decodes what is not UTF-8 as halves of surrogate pairs."""
    return header.encode(errors="surrogateescape").decode(errors="replace")


def _fitting(answer: Answer) -> Answer:
    """The answer with as much of its body as a result may have: control characters take six bytes in JSON."""
    while len(msgspec.json.encode(answer)) > MAX_PAYLOAD_BYTES and answer["body"]:
        answer = Answer(
            status=answer["status"], headers=answer["headers"], body=answer["body"][: len(answer["body"]) // 2], truncated=True
        )
    return answer
