"""Errors as RFC 9457 problems: `type` is a stable name for programs, `detail` is for people, `errors` lists invalid fields."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import cast

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from stoker.errors import Ambiguous, Conflict, Invalid, NotDurable, NotFound, RedisFull, RedisRefused, RedisUnavailable, StokerError

RETRY_AFTER = 2
SHOWN_IDS = 20
MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)


class FieldError(msgspec.Struct, frozen=True):
    """One invalid field. `field` is a path into the body such as `[3].priority`, or a query parameter."""

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457. `type` is `urn:stoker:problem:NAME`; names are stable."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET


class Refusal(Exception):
    """A request that the gateway itself refuses. `passing`: a retry may succeed."""

    def __init__(self, status: HTTPStatus, detail: str, name: str = "", *, passing: bool = False) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name or _slug(status.phrase)
        self.passing = passing


class InvalidFields(Exception):
    """A well-formed request with invalid fields."""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__("; ".join(f"{error.field}: {error.detail}" if error.field else error.detail for error in errors))
        self.errors = list(errors)


def problem_of(error: Exception) -> Problem:
    """The problem of an error. An unexpected one reveals no internals."""
    match error:
        case InvalidFields(errors=errors):
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error), errors)
        case RequestValidationError():
            return problem_of(InvalidFields([FieldError(str(part["loc"][-1]), part["msg"]) for part in error.errors()]))
        case Refusal(status=status, name=name):
            return _problem(status, name, str(error))
        case HTTPException(status_code=code):
            status = HTTPStatus(code)
            return _problem(status, _slug(status.phrase), _ADVICE.get(status, str(error.detail)))
        case StokerError():
            return _of_stoker(error)
        case _:
            detail = "internal error; see the gateway's log at the time of this request"
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", detail)


def response_of(error: Exception) -> Response:
    """The response, with Retry-After if a retry may succeed."""
    problem = problem_of(error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if isinstance(error, RedisUnavailable | RedisFull) or (isinstance(error, Refusal) and error.passing):
        headers["Retry-After"] = str(RETRY_AFTER)
    return Response(msgspec.json.encode(problem), problem.status, headers, MEDIA_TYPE)


def answer_with_problems(app: FastAPI) -> None:
    """Register handlers that turn every error into a problem."""
    for kind in (StokerError, Refusal, InvalidFields, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _handle)
    app.add_exception_handler(Exception, _handle)


async def _handle(request: Request, error: Exception) -> Response:
    if isinstance(error, RedisUnavailable | RedisRefused):
        _log.warning("redis failed a request", extra={"path": request.url.path, "reason": str(error)})
    return response_of(error)


def _of_stoker(error: StokerError) -> Problem:
    match error:
        case Invalid(field=field):
            errors = [FieldError(field, str(error))] if field else None
            return _problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", str(error), errors)
        case NotFound():
            return _problem(HTTPStatus.NOT_FOUND, "task-not-found", str(error))
        case Ambiguous():
            return _problem(HTTPStatus.CONFLICT, "several-queues", f"{error} with ?queue=")
        case Conflict():
            return _problem(HTTPStatus.CONFLICT, "id-taken", str(error))
        case RedisUnavailable():
            detail = f"{error}. Retry; a task with an id or idempotency_key is never enqueued twice"
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "redis-unavailable", detail)
        case NotDurable(ids=ids):
            shown = ", ".join(ids[:SHOWN_IDS]) + (f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else "")
            detail = f"{error}. Enqueued: {shown}; sending them again with these ids does not enqueue them twice"
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "not-durable", detail)
        case RedisFull():
            return _problem(HTTPStatus.INSUFFICIENT_STORAGE, "redis-full", str(error))
        case RedisRefused():
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, "redis-refused", f"{error}. A retry will not help")
        case _:
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", str(error))


def _problem(status: HTTPStatus, name: str, detail: str, errors: list[FieldError] | None = None) -> Problem:
    return Problem(f"urn:stoker:problem:{name}", status.phrase, int(status), detail, errors or msgspec.UNSET)


def _slug(phrase: str) -> str:
    return phrase.lower().replace(" ", "-")


_ADVICE = cast(
    "dict[HTTPStatus, str]",
    {
        HTTPStatus.NOT_FOUND: "no such path; see /docs",
        HTTPStatus.METHOD_NOT_ALLOWED: "method not allowed; see the Allow header and /docs",
    },
)
