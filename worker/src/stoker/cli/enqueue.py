"""`stoker enqueue`: send tasks from a shell."""

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from stoker.cli.options import AsJson, Namespace, QueueName, RedisUrl, duration, moment
from stoker.cli.output import print_json
from stoker.cli.progress import in_chunks
from stoker.cli.session import run
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
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL

A = TypeVar("A")
B = TypeVar("B")
AT_ONCE = 1000
TIMES, RETRIES, ONLY = "When, and for how long", "When a run fails", "Once, or only so many at a time"


def time_option(text: str, rich_help_panel: str = TIMES) -> Any:
    """A flag that takes a duration such as 30s."""
    return typer.Option(parser=duration, metavar="DURATION", help=text, rich_help_panel=rich_help_panel)


def moment_option(text: str) -> Any:
    """A flag that takes a moment."""
    return typer.Option(parser=moment, metavar="TIME", help=text, rich_help_panel=TIMES)


class Enqueued(msgspec.Struct, frozen=True):
    """What became of the task, as `--json` prints it. `status` is null where it was there already."""

    task_id: str
    queue: str
    status: str | None
    duplicate: bool


def enqueue(
    task: Annotated[str, typer.Argument(help="The task's name.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Its arguments. A value that reads as JSON is JSON, else text."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", "-p", metavar="JSON", help="All arguments as one JSON object; - reads stdin.")
    ] = None,
    queue: QueueName = "default",
    priority: Annotated[int, typer.Option(min=MIN_PRIORITY, max=MAX_PRIORITY, help="Higher runs first.")] = 0,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=TEXT", help="A text that travels with it; may be given again.")
    ] = None,
    durability: Annotated[Durability, typer.Option(help="Where it must be before it counts as enqueued.")] = Durability.MEMORY,
    task_version: Annotated[int, typer.Option(min=0, help="Workers that declare a lower one hand it back.")] = 0,
    delay: Annotated[float | None, time_option("Run it so much later: 30s, 10m.")] = None,
    run_at: Annotated[datetime | None, moment_option("Run it then: 2030-01-31T09:00:00Z.")] = None,
    expires: Annotated[float | None, time_option("No run begins so much later: nobody wants it any more.")] = None,
    expires_at: Annotated[datetime | None, moment_option("No run begins then or later.")] = None,
    timeout: Annotated[float | None, time_option("How long it may run; overrides the task's own.")] = None,
    soft_timeout: Annotated[float | None, time_option("When it is asked to end; overrides the task's own.")] = None,
    task_id: Annotated[
        str | None, typer.Option("--id", help="An id of your own, so that it is enqueued once.", rich_help_panel=ONLY)
    ] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Instead of an id: any text that stands for this task.", rich_help_panel=ONLY),
    ] = None,
    unique: Annotated[
        Until | None, typer.Option(help="Only if none of its kind waits (started), or waits or runs (done).", rich_help_panel=ONLY)
    ] = None,
    unique_key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What is its kind; default: its arguments.", rich_help_panel=ONLY)
    ] = None,
    unique_ttl: Annotated[
        float | None, time_option("For how long it keeps others out; default: 1 day.", rich_help_panel=ONLY)
    ] = None,
    concurrency_key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only so many of one key run at a time.", rich_help_panel=ONLY)
    ] = None,
    concurrency_limit: Annotated[int, typer.Option(min=1, max=MOST, help="How many.", rich_help_panel=ONLY)] = 1,
    max_retries: Annotated[
        int | None, typer.Option(min=0, max=MAX_RETRIES, help="Overrides the task's own.", rich_help_panel=RETRIES)
    ] = None,
    initial_delay: Annotated[
        float | None,
        time_option("The first wait. Of these four, those left out are 5s, 2, 1h, Full.", rich_help_panel=RETRIES),
    ] = None,
    multiplier: Annotated[float | None, typer.Option(min=1, rich_help_panel=RETRIES)] = None,
    max_delay: Annotated[float | None, time_option("The longest wait.", rich_help_panel=RETRIES)] = None,
    jitter: Annotated[Jitter | None, typer.Option(rich_help_panel=RETRIES)] = None,
    count: Annotated[int, typer.Option(min=1, help="Enqueue it so many times.")] = 1,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Send a task to its queue: stoker enqueue send_email to=ada@example.org attempts=3 --queue emails."""
    exclusive: dict[str, object] = {"delay": delay, "run_at": run_at, "expires": expires, "expires_at": expires_at}
    exclusive |= {"id": task_id, "idempotency_key": idempotency_key}
    usable(lambda given: check_either_or(given, flag), {name for name, value in exclusive.items() if value is not None})
    if expires is not None:
        usable(check_expires, expires)
    if count > 1 and not (task_id is None and idempotency_key is None):
        raise typer.BadParameter("an id or a key names one task: give either that or --count, not both")
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
    receipts = run(redis_url, namespace, lambda client: send(client, [call] * count))
    report(receipts, call.queue, as_json)


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
    """All of them, with a bar where there are many."""
    try:
        chunks = in_chunks(calls, AT_ONCE, "enqueuing")
        return [receipt for chunk in chunks for receipt in receipts(await client.enqueue(chunk))]
    except NotDurable as error:
        words = f"{error}; its id is {error.ids[0]}" if len(error.ids) == 1 else str(error)
        raise NotDurable(words, error.ids) from error


def report(receipts: list[Receipt], queue: str, as_json: bool) -> None:
    """One task by its id, many by their number."""
    first = receipts[0]
    if len(receipts) > 1:
        print_json({"enqueued": len(receipts), "queue": queue}) if as_json else print(f"enqueued {len(receipts)} tasks in {queue}")
    elif as_json:
        print_json(Enqueued(first.id, queue, first.state, first.duplicate))
    elif first.duplicate:
        print(f"{first.id} is in {queue} already, the same task: nothing done")
    else:
        print(f"{first.id} {first.state} in {queue}")


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
            raise typer.BadParameter("--unique-key and --unique-ttl want --unique started or --unique done beside them")
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
