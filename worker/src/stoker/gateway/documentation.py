"""/docs: the OpenAPI document and Swagger UI, served by this process without a CDN."""

from http import HTTPStatus
from importlib import resources
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Response
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from stoker.gateway.problems import MEDIA_TYPE, Problem
from stoker.gateway.replies import (
    Accepted,
    BatchReply,
    Health,
    NextRuns,
    Overview,
    QueueNames,
    Redriven,
    ScheduleChanged,
    ScheduleList,
    ScheduleRun,
    TaskPage,
)
from stoker.gateway.requests import TaskRequest

router = APIRouter(include_in_schema=False)

_OF_SCHEDULES = (ScheduleList, NextRuns, ScheduleRun, ScheduleChanged)
_SHAPES = (TaskRequest, Accepted, BatchReply, TaskPage, QueueNames, Overview, Redriven, *_OF_SCHEDULES, Health, Problem)
"""And the types within."""
_REFERENCE = "#/components/schemas/{name}"
# The page of Swagger UI styles its elements in place; scripts come as files only.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ASSETS = {
    "docs.js": ("stoker.gateway", "text/javascript"),
    "swagger-ui-bundle.js": ("fastapi_offline", "text/javascript"),
    "swagger-ui.css": ("fastapi_offline", "text/css"),
}


class DocumentedApi(FastAPI):
    """FastAPI whose OpenAPI document includes the msgspec types."""

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, built once."""
        if not self.openapi_schema:
            document = get_openapi(title=self.title, version=self.version, description=self.description, routes=self.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own shape of a 422; ours is a Problem
                schemas.pop(unused, None)
            schemas |= msgspec.json.schema_components(_SHAPES, ref_template=_REFERENCE)[1]
            self.openapi_schema = document
        return self.openapi_schema


def takes(body: Any) -> dict[str, Any]:
    """OpenAPI for a JSON body that the route decodes itself."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema(body)}}}}


def answers(body: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI for a route's responses: `body` for success, a Problem for errors."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        good = status < HTTPStatus.BAD_REQUEST
        kind, media = (body, "application/json") if good else (Problem, MEDIA_TYPE)
        described[status] = {"description": HTTPStatus(status).phrase}
        if kind is not None:
            described[status]["content"] = {media: {"schema": _schema(kind)}}
    return described


@router.get("/")
async def root() -> Response:
    """Redirect to the documentation."""
    return RedirectResponse("docs")


@router.get("/docs")
async def page() -> Response:
    """Swagger UI."""
    return _file("stoker.gateway", "docs.html", "text/html", {"Content-Security-Policy": _PAGE_POLICY})


@router.get("/docs/{asset}")
async def asset(asset: str) -> Response:
    """Scripts and styles of the page."""
    if asset not in _ASSETS:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    package, media_type = _ASSETS[asset]
    return _file(package, asset, media_type, {"Cache-Control": "public, max-age=86400"})


def _file(package: str, name: str, media_type: str, headers: dict[str, str]) -> Response:
    return Response((resources.files(package) / "static" / name).read_bytes(), headers=headers, media_type=media_type)


def _schema(kind: Any) -> dict[str, Any]:
    [schema], _ = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
    return schema
