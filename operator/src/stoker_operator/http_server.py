"""The operator's HTTP server: /livez and /readyz for the kubelet, /metrics for Prometheus."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from stoker.listening import listen
from stoker_operator.health import Health


def application(health: Health, registry: CollectorRegistry, role: Callable[[], str]) -> web.Application:
    """The three endpoints. `role()`: which part this operator plays, for /readyz."""

    async def livez(_: web.Request) -> web.Response:
        problems = health.problems()
        return web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)

    async def readyz(_: web.Request) -> web.Response:
        text = f"ok: {role()}" if health.ready else f"{role()}, the watches have not begun yet"
        return web.Response(text=text, status=200 if health.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(registry), headers=headers)

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int) -> AsyncIterator[None]:
    """Serve until the block ends."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listen(host, port), shutdown_timeout=1).start()
        yield
    finally:
        await runner.cleanup()
