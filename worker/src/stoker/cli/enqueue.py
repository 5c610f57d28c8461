"""`stoker enqueue`: send tasks from a shell."""

import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
import typer

from stoker.cli.options import AsJson, Namespace, QueueName, RedisUrl, duration, moment
from stoker.cli.output import print_json
from stoker.cli.progress import in_chunks
from stoker.cli.session import run
from stoker.client import Client, TaskCall
from stoker.errors import Invalid
from stoker.queue.broker import Receipt
from stoker.rules.message import MAX_PRIORITY, MIN_PRIORITY, check_id, check_key, check_payload, check_queue, encode_payload
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL

A = TypeVar("A")
B = TypeVar("B")
AT_ONCE = 1000


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
    delay: Annotated[
        float | None, typer.Option(parser=duration, metavar="DURATION", help="Run it so much later: 30s, 10m.")
    ] = None,
    run_at: Annotated[
        datetime | None, typer.Option(parser=moment, metavar="TIME", help="Run it then: 2030-01-31T09:00:00Z.")
    ] = None,
    task_id: Annotated[str | None, typer.Option("--id", help="An id of your own, so that it is enqueued once.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Instead of an id: any text that stands for this task.")
    ] = None,
    max_retries: Annotated[int | None, typer.Option(min=0, help="Overrides the task's own.")] = None,
    timeout: Annotated[float | None, typer.Option(parser=duration, metavar="DURATION", help="Overrides the task's own.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Enqueue it so many times.")] = 1,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Send a task to its queue: stoker enqueue send_email to=ada@example.org attempts=3 --queue emails."""
    if delay is not None and run_at is not None:
        raise typer.BadParameter("give either --delay or --run-at, not both")
    if task_id is not None and idempotency_key is not None:
        raise typer.BadParameter("give either --id or --idempotency-key, not both")
    if count > 1 and not (task_id is None and idempotency_key is None):
        raise typer.BadParameter("an id or a key names one task: give either that or --count, not both")
    call = TaskCall(
        task=task,
        queue=usable(check_queue, queue),
        payload=arguments_of(payload, arguments or []),
        priority=priority,
        delay=delay or 0.0,
        run_at=run_at.timestamp() if run_at else 0.0,
        id=task_id if task_id is None else usable(check_id, task_id),
        max_retries=max_retries,
        timeout=timeout,
        idempotency_key=None if idempotency_key is None else usable(check_key, idempotency_key),
    )
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
    return [receipt for chunk in in_chunks(calls, AT_ONCE, "enqueuing") for receipt in await client.send(chunk)]


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


def _pair(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return key, msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return key, value
