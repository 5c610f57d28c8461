"""The application: routes, layers around them, and what lives as long as it does."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stoker.client.client import Client
from stoker.gateway import documentation, routes_dead, routes_health, routes_queues, routes_tasks
from stoker.gateway.backend import PATIENCE, Backend
from stoker.gateway.metrics import GatewayMetrics, Measured
from stoker.gateway.problems import answer_with_problems
from stoker.version import VERSION

_DESCRIPTION = """Enqueue background tasks, look at queues, repair dead letters.

Errors are problems as of RFC 9457: `type` is stable, `detail` says what to do.
A task with an `id` of your own may be sent again without being enqueued twice.
"""


def create_app(client: Client, patience: float = PATIENCE) -> FastAPI:
    """The gateway. It closes `client` when it ends; a request waits `patience` seconds for Redis."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    app = documentation.DocumentedApi(
        title="Stoker gateway", version=VERSION, description=_DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.state.backend = Backend(client, patience)
    app.state.metrics = GatewayMetrics()
    for part in (routes_health, routes_tasks, routes_queues, routes_dead, documentation):
        app.include_router(part.router)
    answer_with_problems(app)
    app.add_middleware(PlainHeaders)
    app.add_middleware(Measured, metrics=app.state.metrics)
    return app


class PlainHeaders:
    """Tells browsers that answers are data: not to be guessed at, framed, or run. A page says otherwise for itself."""

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
