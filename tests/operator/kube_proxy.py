"""A proxy between an operator and its API server: it tells what was written, and may hold, answer or break any request."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import yaml
from aiohttp import web

from tests.operator.apiserver import ApiServer

_PATH = re.compile(r"/namespaces/[^/]+/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[a-z]+))?$")
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding"}


class Call(NamedTuple):
    """A request that writes. `kind` as `PATCH deployments/scale`, `number` among those of its kind, from 1."""

    kind: str
    number: int
    body: bytes


class Break(Exception):
    """Cut the connection instead of answering."""


Before = Callable[[Call], Awaitable[web.Response | None]]
"""May wait, answer in the API server's place, or raise Break."""
After = Callable[[Call, int], Awaitable[None]]
"""Called with the status of the reply that is about to be passed on. May wait, or raise Break."""


async def _nothing(*_: object) -> None:
    return None


class KubeProxy:
    """Passes everything on until it is asked for something else."""

    def __init__(self, server: ApiServer) -> None:
        self.calls: list[tuple[str, int]] = []  # the kind and the status of each reply to a write, Leases left out
        self.before: Before = _nothing
        self.after: After = _nothing
        self.reads: Before = _nothing
        self.line: Callable[[bytes], bytes] = lambda line: line  # what of a line of a watch is passed on
        self.cut = False
        self._server = server
        self._counts: Counter[str] = Counter()
        self._streams: set[web.StreamResponse] = set()
        self.url = ""

    def kubeconfig(self, folder: Path, of: Path | None = None) -> str:
        """That of the operator, or of another user, with this proxy for its server."""
        found = yaml.safe_load((of or self._server.kubeconfig).read_text())
        found["clusters"][0]["cluster"] = {"server": self.url}
        path = folder / "kubeconfig-of-proxy"
        path.write_text(yaml.safe_dump(found))
        return str(path)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KubeProxy"]:
        """Serve for the length of the block."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        [address] = runner.addresses
        self.url = f"http://127.0.0.1:{address[1]}"
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(self._server.url, connector=connector, auto_decompress=False) as self._upstream:
            try:
                yield self
            finally:
                await runner.cleanup()
        await asyncio.sleep(0.05)  # asyncio closes transports in the loop's next steps

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._reply(request)
        except (Break, aiohttp.ClientError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # which goes nowhere

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        if self.cut:
            raise Break
        body = await request.read()
        call = self._call(request, body)
        instead = await (self.reads if request.method == "GET" else self.before)(call)
        if instead is not None:
            return instead
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        headers["Accept-Encoding"] = "identity"
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._upstream.request(
            request.method, request.path_qs, headers=headers, data=body or None, timeout=timeout
        ) as reply:
            passed = {name: value for name, value in reply.headers.items() if name.lower() not in _HOP}
            if "watch" in request.query:
                return await self._stream(request, reply, passed)
            text = await reply.read()
        if request.method != "GET":
            if "leases" not in call.kind:
                self.calls.append((call.kind, reply.status))
            await self.after(call, reply.status)
        if self.cut:
            raise Break
        return web.Response(body=text, status=reply.status, headers=passed)

    def _call(self, request: web.Request, body: bytes) -> Call:
        found = _PATH.search(request.path)
        resource = "/".join(filter(None, (found["plural"], found["sub"]))) if found else request.path
        kind = f"{'WATCH' if 'watch' in request.query else request.method} {resource}"
        self._counts[kind] += 1
        return Call(kind, self._counts[kind], body)

    async def _stream(self, request: web.Request, reply: aiohttp.ClientResponse, headers: dict[str, str]) -> web.StreamResponse:
        passed = web.StreamResponse(status=reply.status, headers=headers)
        await passed.prepare(request)
        async for line in reply.content:
            if self.cut:
                raise Break
            if line := self.line(line):
                await passed.write(line)
        await passed.write_eof()
        return passed


def failure(status: int, message: str, **headers: str) -> web.Response:
    """A Status, as the API server answers."""
    text = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": message})
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)


@asynccontextmanager
async def proxy_to(server: ApiServer) -> AsyncIterator[KubeProxy]:
    async with KubeProxy(server).running() as proxy:
        yield proxy


async def forever() -> None:
    """What a hook waits for that answers nothing."""
    await asyncio.Event().wait()
