"""`stoker schedules`: what runs by the clock, and what a person may do about it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from stoker.cli.options import AsJson, MaybeQueueName, Namespace, QueueName, RedisUrl
from stoker.cli.output import print_json, print_table, since
from stoker.cli.session import known_queues, run
from stoker.client.client import Client
from stoker.queue.schedules import Schedules, ScheduleStatus
from stoker.rules.message import check_queue
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL

T = TypeVar("T")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
_COLUMNS = ("QUEUE", "NAME", "CRON", "ZONE", "TASK", "NEXT RUN", "LAST RUN", "ENDED", "SKIPPED", "MISSED", "SOURCE")


def build() -> typer.Typer:
    """The group `schedules`; without a command it lists."""
    group = typer.Typer(name="schedules", help="Tasks that run by the clock.", invoke_without_command=True, rich_markup_mode=None)
    group.callback()(ls)
    group.command("run")(start)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("rm")(remove)
    return group


def ls(
    context: typer.Context,
    queue: MaybeQueueName = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """List the schedules of all queues, or of one: when they run next, and how the last run ended."""
    if context.invoked_subcommand:
        return

    async def work(client: Client) -> dict[str, list[ScheduleStatus]]:
        names = await known_queues(client, [queue] if queue else [])
        return {name: await client.inspector.schedules(name).all() for name in names}

    found = run(redis_url, namespace, work)
    if as_json:
        print_json([{"queue": name, "schedule": status} for name, statuses in found.items() for status in statuses])
    else:
        print_table(_COLUMNS, [_row(name, status) for name, statuses in found.items() for status in statuses])


def start(
    name: Name, queue: QueueName = "default", redis_url: RedisUrl = DEFAULT_REDIS_URL, namespace: Namespace = DEFAULT_NAMESPACE
) -> None:
    """Start a run now, beside those that the clock starts. Prints its id."""
    print(_with(redis_url, namespace, queue, lambda schedules: schedules.run_now(name)))


def pause(
    name: Name, queue: QueueName = "default", redis_url: RedisUrl = DEFAULT_REDIS_URL, namespace: Namespace = DEFAULT_NAMESPACE
) -> None:
    """Let it start nothing until it is resumed, also when it is declared anew."""
    news = _with(redis_url, namespace, queue, lambda schedules: schedules.pause(name))
    print(f"{name} is paused" if news else f"{name} was paused already")


def resume(
    name: Name, queue: QueueName = "default", redis_url: RedisUrl = DEFAULT_REDIS_URL, namespace: Namespace = DEFAULT_NAMESPACE
) -> None:
    """Let it wait for its next moment again; what passed meanwhile is not caught up with."""
    news = _with(redis_url, namespace, queue, lambda schedules: schedules.resume(name))
    print(f"{name} goes on" if news else f"{name} was not paused")


def remove(
    name: Name, queue: QueueName = "default", redis_url: RedisUrl = DEFAULT_REDIS_URL, namespace: Namespace = DEFAULT_NAMESPACE
) -> None:
    """Forget one that nobody declares any more. What is still declared comes back within seconds."""
    _with(redis_url, namespace, queue, lambda schedules: schedules.remove(name))
    print(f"{name} is removed")


def _with(redis_url: str, namespace: str, queue: str, work: Callable[[Schedules], Awaitable[T]]) -> T:
    return run(redis_url, namespace, lambda client: work(client.inspector.schedules(check_queue(queue))))


def _row(queue: str, status: ScheduleStatus) -> tuple[object, ...]:
    definition = status.definition
    timing = definition.timing if definition else None
    return (
        *(queue, status.name, timing.cron if timing else "?", timing.time_zone if timing else "?"),
        *(definition.task if definition else "?", _next(status)),
        since(status.last_started) if status.last_started else "-",
        *(status.last_state or "-", status.skipped, status.missed, status.source),
    )


def _next(status: ScheduleStatus) -> str:
    if status.next_run is None:
        return "paused" if status.paused else "suspended"
    return f"{datetime.fromtimestamp(status.next_run / 1000, UTC):%Y-%m-%d %H:%M:%SZ} ({since(status.next_run)})"
