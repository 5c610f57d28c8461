"""A ready-made application that calls HTTP endpoints: `stoker worker stoker.apps.http:app`.

One task, `http.request`. Which hosts it may call is said by STOKER_HTTP_ALLOW, and nothing else; without it the worker does not
start. docs/how-to/without-python.md tells users about it.
"""

import asyncio
import codecs
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, TypedDict

try:
    from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, ThreadedResolver
    from aiohttp.abc import ResolveResult
    from yarl import URL
except ImportError as error:
    raise ImportError(f'it needs packages that are not installed ({error.name}): pip install "stoker[apps]"') from error

from stoker.app.app import Stoker
from stoker.errors import Dead, Invalid
from stoker.rules.allow_list import PORTS, Allowed, Verdict, judge, retry_after
from stoker.task.context import Context
from stoker.task.dependencies import State
from stoker.version import VERSION

ALLOW, ALLOW_NETWORKS, MAX_RESPONSE = "STOKER_HTTP_ALLOW", "STOKER_HTTP_ALLOW_NETWORKS", "STOKER_HTTP_MAX_RESPONSE"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MOST_REDIRECTS = 5
MOST_HEADERS = 50
SHOWN = 300
_KEEPS_METHOD = frozenset({307, 308})
_REDIRECTS = frozenset({301, 302, 303}) | _KEEPS_METHOD
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "upgrade", "expect", "te", "trailer"})
"""Headers that say where a request ends and to whom it goes: not for a payload to write."""


class Answer(TypedDict):
    """What the server said. The headers' names are in lower case; `body` is text, of which it keeps so much (`truncated`)."""

    status: int
    headers: dict[str, str]
    body: str
    truncated: bool


class UnreachableError(Exception):
    """No answer: the name does not resolve, nobody listens, or it took too long."""


class RefusedError(Exception):
    """An answer that may be another one later."""


class Caller:
    """A session of connections to the hosts that are allowed."""

    def __init__(self, session: ClientSession, allowed: Allowed, keeps: int) -> None:
        self.session = session
        self._allowed = allowed
        self._keeps = keeps

    def check(self, url: URL) -> URL:
        """Raises Invalid where it may not be called."""
        if url.scheme not in PORTS or not url.host:
            raise Invalid(f"bad url {str(url)[:SHOWN]!r}: write https://host/path")
        if url.user or url.password:
            raise Invalid("a user and a password in a url are not sent: use a header")
        self._allowed.check_url(url.scheme, url.host, url.port or PORTS[url.scheme])
        return url

    async def read(self, response: ClientResponse) -> Answer:
        """As much of the answer as is kept, and never more in memory."""
        kept, whole = bytearray(), True
        async for chunk in response.content.iter_chunked(16 * 1024):
            kept += chunk
            if len(kept) > self._keeps:
                whole = False
                break
        text = bytes(kept[: self._keeps]).decode(_charset(response), errors="replace")
        headers = {name.lower(): value for name, value in list(response.headers.items())[:MOST_HEADERS]}
        return Answer(status=response.status, headers=headers, body=text, truncated=not whole)


class PublicOnly(ThreadedResolver):
    """Resolves names, and hands over only addresses that may be called: what was checked is what is connected to."""

    def __init__(self, allowed: Allowed) -> None:
        super().__init__()
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises Invalid where any of the addresses is one that may not be called."""
        found = await super().resolve(host, port, family)
        for each in found:
            self._allowed.check_address(ip_address(each["host"].partition("%")[0]), host)
        return found


@asynccontextmanager
async def lifespan(_app: Stoker) -> AsyncIterator[Caller]:
    """The session of one worker process. Raises Invalid where it is not said which hosts may be called."""
    if not os.environ.get(ALLOW, "").strip():
        raise Invalid(f"{ALLOW} is not set: name the hosts that tasks may call, such as api.example.org,*.example.net:8443")
    allowed = Allowed.parse(os.environ[ALLOW], os.environ.get(ALLOW_NETWORKS, ""))
    keeps = int(os.environ.get(MAX_RESPONSE, 64 * 1024))
    connector = TCPConnector(resolver=PublicOnly(allowed), use_dns_cache=False, limit=0)
    # Nothing is unpacked: a few bytes could become gigabytes.
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
    """Call an endpoint and keep its answer. `timeout` in seconds, for the whole of it.

    Any 2xx (or one of `expect`) is a success. 5xx, 429, 408, 425 and no answer at all are tried again, not before what a
    Retry-After header asks for; everything else is buried. Redirects are followed within the same host only. The header
    `Idempotency-Key` is the task's id, in every attempt the same, unless the payload has one.
    """
    if method not in METHODS:
        raise Dead(f"bad method {method!r}: use one of {', '.join(sorted(METHODS))}")
    if body is not None and json is not None:
        raise Dead("give either json or a body, not both")
    wanted: dict[str, Any] = {"headers": _headers(headers or {}, ctx.id)}
    wanted |= {"json": json} if json is not None else {"data": body} if body is not None else {}
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            answer = await _call(caller, method, URL(url), wanted)
    except (Invalid, ValueError) as error:  # ValueError: aiohttp's own about a url or a header
        raise Dead(str(error)) from error
    except TimeoutError as error:
        raise UnreachableError(f"no answer within {timeout:g} s") from error
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


async def _call(caller: Caller, method: str, url: URL, wanted: dict[str, Any]) -> Answer:
    caller.check(url)
    for _ in range(MOST_REDIRECTS + 1):
        async with caller.session.request(method, url, allow_redirects=False, **wanted) as response:
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return await caller.read(response)
            after = url.join(URL(location))
            if after.origin() != url.origin():
                raise Invalid(f"{method} was redirected to another host, {after.origin()}: call that one, if it is meant")
            if response.status not in _KEEPS_METHOD and method not in {"GET", "HEAD"}:
                raise Invalid(f"{method} was redirected with {response.status}, which would make it a GET: call {after}")
            url = after
    raise Invalid(f"{method} was redirected more than {MOST_REDIRECTS} times")


def _headers(given: dict[str, str], task_id: str) -> dict[str, str]:
    if ours := sorted(name for name in given if name.lower() in _OURS):
        raise Dead(f"the headers {', '.join(ours)} are not for a payload to set")
    named = {name.lower() for name in given}
    return given if "idempotency-key" in named else {**given, "Idempotency-Key": task_id}


def _charset(response: ClientResponse) -> str:
    try:
        return codecs.lookup(response.charset or "utf-8").name
    except LookupError:
        return "utf-8"
