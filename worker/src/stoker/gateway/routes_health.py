"""Probes and metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from stoker.gateway.backend import OwnRedis
from stoker.gateway.documentation import answers
from stoker.gateway.metrics import GatewayMetrics
from stoker.gateway.replies import Health, reply

router = APIRouter(tags=["health"])


@router.get("/healthz", responses=answers(Health, 200))
async def healthz() -> Response:
    """Liveness: the process answers. Independent of Redis, which a restart of the gateway would not fix."""
    return reply(Health("alive"))


@router.get("/readyz", responses=answers(Health, 200, 503))
async def readyz(redis: OwnRedis) -> Response:
    """Readiness: Redis answers the gateway."""
    await redis.ask(lambda client: client.inspector.ping())
    return reply(Health("ready"))


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Prometheus metrics of this gateway. Queue gauges come from the operator alone: exported twice, sums would double."""
    measured: GatewayMetrics = request.app.state.metrics
    return Response(generate_latest(measured.registry), media_type=CONTENT_TYPE_LATEST)
