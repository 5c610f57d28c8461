"""`stoker enqueue`: enqueue tasks from a shell."""

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from stoker.cli.options import QueueName, duration, moment
from stoker.cli.progress import in_chunks
from stoker.cli.session import Session, with_session
from stoker.client.client import Client
from stoker.errors import Invalid, NotDurable
from stoker.queue.records import Receipt, receipts
from stoker.rules.call import TaskCall
from stoker.rules.concurrency import MOST, Limit
from stoker.rules.durability import Durability
from stoker.rules.message import (
    MAX_PRIORITY,
    MAX_RETRIES,
    MIN_PRIORITY,
    check_key,
    check_payload,
    encode_payload,
)
from stoker.rules.request import check_either_or, check_expires
from stoker.rules.retry import Backoff, Jitter
from stoker.rules.unique import DAY, Claim, Unique, Until

A = TypeVar("A")
B = TypeVar("B")
AT_ONCE = 1000
TIMES, RETRIES, ONLY = "Time", "Retries", "Deduplication and concurrency"


def time_option(text: str, rich_help_panel: str = TIMES) -> Any:
    """A flag that takes a duration such as 30s."""
    return typer.Option(parser=duration, metavar="DURATION", help=text, rich_help_panel=rich_help_panel)


def moment_option(text: str) -> Any:
    """A flag that takes a moment."""
    return typer.Option(parser=moment, metavar="TIME", help=text, rich_help_panel=TIMES)


class Enqueued(msgspec.Struct, frozen=True):
    """One enqueued task, as `--json` prints it. `status` is null for a duplicate."""

    task_id: str
    queue: str
    status: str | None
    duplicate: bool


@with_session
def enqueue(
    session: Session,
    task: Annotated[str, typer.Argument(help="The task's name.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Arguments. A value that parses as JSON is JSON, else text."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", "-p", metavar="JSON", help="All arguments as one JSON object; - reads stdin.")
    ] = None,
    queue: QueueName = "default",
    priority: Annotated[int, typer.Option(min=MIN_PRIORITY, max=MAX_PRIORITY, help="Higher runs first.")] = 0,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=TEXT", help="A header of the task; repeatable.")] = None,
    durability: Annotated[Durability, typer.Option(help="What Redis must confirm before this returns.")] = Durability.MEMORY,
    task_version: Annotated[int, typer.Option(min=0, help="Workers that declare a lower version leave the task to others.")] = 0,
    delay: Annotated[float | None, time_option("Delay until it may run: 30s, 10m.")] = None,
    run_at: Annotated[datetime | None, moment_option("When it may run: 2030-01-31T09:00:00Z.")] = None,
    expires: Annotated[float | None, time_option("Cancel it if it has not started within this time.")] = None,
    expires_at: Annotated[datetime | None, moment_option("Cancel it if it has not started by then.")] = None,
    timeout: Annotated[float | None, time_option("Maximum run time; overrides the task's own.")] = None,
    soft_timeout: Annotated[float | None, time_option("When a run is asked to stop; overrides the task's own.")] = None,
    task_id: Annotated[
        str | None, typer.Option("--id", help="Task id: the same id is enqueued once.", rich_help_panel=ONLY)
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Like --id, but any text.", rich_help_panel=ONLY),
    ] = None,
    unique: Annotated[
        Until | None,
        typer.Option(help="Only if none like it waits (started), or waits or runs (done).", rich_help_panel=ONLY),
    ] = None,
    unique_key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What makes two tasks alike; default: the arguments.", rich_help_panel=ONLY)
    ] = None,
    unique_ttl: Annotated[
        float | None, time_option("How long it blocks others like it; default: 1 day.", rich_help_panel=ONLY)
    ] = None,
    concurrency_key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Limits how many tasks with this key run at once.", rich_help_panel=ONLY)
    ] = None,
    concurrency_limit: Annotated[int, typer.Option(min=1, max=MOST, help="That limit.", rich_help_panel=ONLY)] = 1,
    max_retries: Annotated[
        int | None, typer.Option(min=0, max=MAX_RETRIES, help="Overrides the task's own.", rich_help_panel=RETRIES)
    ] = None,
    initial_delay: Annotated[
        float | None,
        time_option("First delay. Defaults of these four: 5s, 2, 1h, Full.", rich_help_panel=RETRIES),
    ] = None,
    multiplier: Annotated[float | None, typer.Option(min=1, rich_help_panel=RETRIES)] = None,
    max_delay: Annotated[float | None, time_option("Maximum delay.", rich_help_panel=RETRIES)] = None,
    jitter: Annotated[Jitter | None, typer.Option(rich_help_panel=RETRIES)] = None,
    count: Annotated[int, typer.Option(min=1, help="Enqueue this many copies.")] = 1,
) -> None:
    """Enqueue a task: stoker enqueue send_email to=ada@example.org attempts=3 --queue emails."""
    exclusive: dict[str, object] = {"delay": delay, "run_at": run_at, "expires": expires, "expires_at": expires_at}
    exclusive |= {"id": task_id, "idempotency_key": idempotency_key}
    usable(lambda given: check_either_or(given, flag), {name for name, value in exclusive.items() if value is not None})
    if expires is not None:
        usable(check_expires, expires)
    if count > 1 and not (task_id is None and idempotency_key is None):
        raise typer.BadParameter("an id or idempotency key names one task: give either that or --count, not both")
    body = arguments_of(payload, arguments or [])
    call = TaskCall(
        task=task,
        queue=queue,
        payload=body,
        priority=priority,
        delay=delay or 0.0,
        run_at=run_at.timestamp() if run_at else 0.0,
        id=task_id,
        max_retries=max_retries,
        retry=_retry(max_retries, initial_delay=initial_delay, multiplier=multiplier, max_delay=max_delay, jitter=jitter),
        timeout=timeout,
        soft_timeout=soft_timeout,
        expires=expires or 0.0,
        expires_at=expires_at.timestamp() if expires_at else 0.0,
        headers=dict(_text_pair(pair) for pair in header or []),
        idempotency_key=idempotency_key,
        claim=_claim(task, body, unique, unique_key, unique_ttl),
        limit=None if concurrency_key is None else Limit(usable(check_key, concurrency_key), concurrency_limit),
        durability=durability,
        version=task_version,
    )
    usable(TaskCall.check, call)
    receipts = session.run(lambda client: send(client, [call] * count))
    report(session, receipts, call.queue)


def arguments_of(payload: str | None, pairs: list[str]) -> msgspec.Raw:
    """The payload from `--payload` or from key=value pairs. Raises typer.BadParameter for what is neither."""
    if payload is None:
        return usable(encode_payload, dict(_pair(pair) for pair in pairs))
    if pairs:
        raise typer.BadParameter("give either --payload or KEY=VALUE arguments, not both")
    text = sys.stdin.buffer.read() if payload == "-" else payload.encode()
    try:
        compact = msgspec.json.format(text, indent=-1)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"--payload is not JSON: {error}") from error
    return usable(check_payload, compact)


async def send(client: Client, calls: list[TaskCall]) -> list[Receipt]:
    """Enqueue all, with a progress bar if there are many."""
    try:
        chunks = in_chunks(calls, AT_ONCE, "enqueuing")
        return [receipt for chunk in chunks for receipt in receipts(await client.enqueue(chunk))]
    except NotDurable as error:
        words = f"{error}; its id is {error.ids[0]}" if len(error.ids) == 1 else str(error)
        raise NotDurable(words, error.ids) from error


def report(session: Session, receipts: list[Receipt], queue: str) -> None:
    """Print one task's id and state, or how many were enqueued."""
    first = receipts[0]
    if len(receipts) > 1:
        session.show({"enqueued": len(receipts), "queue": queue}, f"enqueued {len(receipts)} tasks in {queue}")
        return
    same = f"{first.id} is already in {queue}: nothing enqueued"
    text = same if first.duplicate else f"{first.id} {first.state} in {queue}"
    session.show(Enqueued(first.id, queue, first.state, first.duplicate), text)


def usable(check: Callable[[A], B], value: A) -> B:
    """What `check` makes of a value; its Invalid is wrong usage."""
    try:
        return check(value)
    except Invalid as error:
        raise typer.BadParameter(str(error)) from error


def flag(field: str) -> str:
    """The command line's name of a field."""
    return "--" + field.replace("_", "-")


def _retry(count: int | None, **waits: Any) -> Backoff | None:
    given = {name: value for name, value in waits.items() if value is not None}
    if not given:
        return None
    return usable(lambda numbers: Backoff(**numbers), given if count is None else {"max_retries": count, **given})


def _claim(task: str, payload: bytes, until: Until | None, key: str | None, ttl: float | None) -> Claim | None:
    if until is None:
        if key is not None or ttl is not None:
            raise typer.BadParameter("--unique-key and --unique-ttl need --unique started or --unique done")
        return None
    return usable(lambda unique: Unique(*unique).claim(task, payload), (until, DAY if ttl is None else ttl, key))


def _text_pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=TEXT")
    return key, value


def _pair(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return key, value
