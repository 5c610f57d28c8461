"""What may be posted as a task: the shape of a request, with what the API's description says of it."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from stoker.rules.durability import Durability
from stoker.rules.message import MAX_KEY, MAX_PRIORITY, MAX_RETRIES, MIN_PRIORITY
from stoker.rules.request import MAX_NAME, TEN_YEARS, ConcurrencyRequest, RetryRequest, UniqueRequest


class TaskRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One task to enqueue. Give `id` or `idempotency_key` to make it safe to send again: the same task is enqueued once.

    What is left out is as the task's declaration says where the worker knows it (retries, timeouts), and as this says elsewhere.
    """

    task: Annotated[str, Meta(min_length=1, max_length=MAX_NAME, description="The task's name.", examples=["send_email"])]
    payload: Annotated[
        Raw,
        Meta(
            description="Its named arguments.", extra_json_schema={"type": "object", "default": {}, "examples": [{"to": "a@b.c"}]}
        ),
    ] = msgspec.field(default_factory=lambda: Raw(b"{}"))
    queue: Annotated[str, Meta(description="The queue it waits in.")] = "default"
    priority: Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY, description="Higher runs first.")] = 0
    delay: Annotated[float, Meta(ge=0, le=TEN_YEARS, description="Seconds from now; or give run_at.")] = 0.0
    run_at: Annotated[datetime, Meta(tz=True, description="RFC 3339, with its zone.")] | None = None
    id: Annotated[str, Meta(description="An id of your own: 1 to 128 printable ASCII characters.")] | None = None
    idempotency_key: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_KEY,
                description="Instead of an id: any text that stands for this task in its queue, for as long as the task is kept.",
            ),
        ]
        | None
    ) = None
    unique: Annotated[UniqueRequest, Meta(description="Only one of its kind.")] | None = None
    concurrency: Annotated[ConcurrencyRequest, Meta(description="Only so many of its key at a time.")] | None = None
    max_retries: Annotated[int, Meta(ge=0, le=MAX_RETRIES, description="Overrides the task's own; or give retry.")] | None = None
    retry: Annotated[RetryRequest, Meta(description="Overrides all numbers of the task's own retry policy.")] | None = None
    timeout: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds it may run; overrides the task's own.")] | None = None
    soft_timeout: (
        Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds until it is asked to end; overrides the task's own.")] | None
    ) = None
    expires: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds from now after which no run begins.")] | None = None
    expires_at: Annotated[datetime, Meta(tz=True, description="Instead of expires: RFC 3339, with its zone.")] | None = None
    headers: Annotated[dict[str, str], Meta(description="At most 32 texts of 8 KiB together: the task's ctx.headers.")] = {}
    durability: Annotated[Durability, Meta(description="Where it must be before the answer comes.")] = Durability.MEMORY
    version: Annotated[int, Meta(ge=0, le=2**31, description="Workers that declare a lower one hand it back.")] = 0
