"""Request bodies of `POST /v1/tasks`, with their OpenAPI descriptions."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from stoker.rules.durability import Durability
from stoker.rules.message import MAX_KEY, MAX_PRIORITY, MAX_RETRIES, MIN_PRIORITY
from stoker.rules.request import MAX_NAME, TEN_YEARS, ConcurrencyRequest, RetryRequest, UniqueRequest


class TaskRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One task to enqueue. With `id` or `idempotency_key` a repeated request enqueues it once.

    Omitted retries and timeouts are those of the task's declaration in the worker.
    """

    task: Annotated[str, Meta(min_length=1, max_length=MAX_NAME, description="The task's name.", examples=["send_email"])]
    payload: Annotated[
        Raw,
        Meta(description="Named arguments.", extra_json_schema={"type": "object", "default": {}, "examples": [{"to": "a@b.c"}]}),
    ] = msgspec.field(default_factory=lambda: Raw(b"{}"))
    queue: Annotated[str, Meta(description="Queue.")] = "default"
    priority: Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY, description="Higher runs first.")] = 0
    delay: Annotated[float, Meta(ge=0, le=TEN_YEARS, description="Seconds until it may run; excludes run_at.")] = 0.0
    run_at: Annotated[datetime, Meta(tz=True, description="When it may run, RFC 3339.")] | None = None
    id: Annotated[str, Meta(description="Task id: 1 to 128 printable ASCII characters; the same id is enqueued once.")] | None = (
        None
    )
    idempotency_key: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=MAX_KEY,
                description="Like id, but any text, unique within the queue. Excludes id.",
            ),
        ]
        | None
    ) = None
    unique: Annotated[UniqueRequest, Meta(description="Enqueue only if no task like it waits or runs.")] | None = None
    concurrency: Annotated[ConcurrencyRequest, Meta(description="Limit how many tasks with the same key run at once.")] | None = (
        None
    )
    max_retries: Annotated[int, Meta(ge=0, le=MAX_RETRIES, description="Overrides the task's own; excludes retry.")] | None = None
    retry: Annotated[RetryRequest, Meta(description="Overrides the task's whole retry policy.")] | None = None
    timeout: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Maximum seconds of a run.")] | None = None
    soft_timeout: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds after which a run is asked to stop.")] | None = (
        None
    )
    expires: Annotated[float, Meta(gt=0, le=TEN_YEARS, description="Seconds until it is cancelled unless started.")] | None = None
    expires_at: Annotated[datetime, Meta(tz=True, description="Like expires, as an RFC 3339 time.")] | None = None
    headers: Annotated[dict[str, str], Meta(description="Becomes ctx.headers: at most 32, 8 KiB in total.")] = {}
    durability: Annotated[Durability, Meta(description="What Redis must confirm before the response.")] = Durability.MEMORY
    version: Annotated[int, Meta(ge=0, le=2**31, description="Workers with a lower version leave it.")] = 0
