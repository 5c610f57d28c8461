"""The application: routes, middleware, lifespan."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stoker.client.client import Client
from stoker.gateway import documentation, routes_dead, routes_health, routes_queues, routes_schedules, routes_tasks
from stoker.gateway.backend import PATIENCE, Backend
from stoker.gateway.guard import Guarded, Hosts
from stoker.gateway.limits import Bodies
from stoker.gateway.metrics import GatewayMetrics, Measured
from stoker.gateway.problems import answer_with_problems
from stoker.version import VERSION

_DESCRIPTION = """Enqueue background tasks, inspect queues, redrive dead tasks.

Errors are RFC 9457 problems: `type` is stable, `detail` says what to do.
Retries are safe with an `id` or `idempotency_key`: the same task is enqueued once.
"""


def create_app(
    client: Client, patience: float = PATIENCE, hosts: Hosts | None = None, *, known_queues_only: bool = False
) -> FastAPI:
    """The gateway. Closes `client` at shutdown; a request waits up to `patience` seconds for Redis. It answers to `hosts`.

    `known_queues_only`: it enqueues into queues alone that are in the catalogue or claimed by a TaskQueue.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    app = documentation.DocumentedApi(
        title="Stoker gateway",
        version=VERSION,
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the Host header's host
    )
    app.state.backend = Backend(client, patience)
    app.state.bodies = Bodies()
    app.state.known_queues_only = known_queues_only
    app.state.metrics = GatewayMetrics()
    for part in (routes_health, routes_tasks, routes_queues, routes_schedules, routes_dead, documentation):
        app.include_router(part.router)
    answer_with_problems(app)
    app.add_middleware(Guarded, hosts=hosts or Hosts())
    app.add_middleware(PlainHeaders)
    app.add_middleware(Measured, metrics=app.state.metrics)
    return app


class PlainHeaders:
    """Security headers for data: no sniffing, framing or scripts. The documentation page sets its own policy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
