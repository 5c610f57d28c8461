"""`stoker schedules`: cron schedules and their next runs; run, pause, resume or delete one."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from stoker.cli.options import MaybeQueueName, QueueName
from stoker.cli.output import print_table, since
from stoker.cli.session import Session, known_queues, with_session
from stoker.client.client import Client
from stoker.queue.schedules import Schedules, ScheduleStatus
from stoker.rules.message import check_queue

T = TypeVar("T")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
_COLUMNS = ("QUEUE", "NAME", "CRON", "ZONE", "TASK", "NEXT RUN", "LAST RUN", "ENDED", "SKIPPED", "MISSED", "SOURCE")


def build() -> typer.Typer:
    """The group `schedules`; with no subcommand it lists."""
    help_text = "Cron schedules. With no subcommand, lists them with their next run."
    group = typer.Typer(name="schedules", help=help_text, invoke_without_command=True, rich_markup_mode=None)
    group.callback()(list_schedules)
    group.command("run")(run)
    group.command("pause")(pause)
    group.command("resume")(resume)
    group.command("delete")(delete)
    return group


@with_session
def list_schedules(session: Session, context: typer.Context, queue: MaybeQueueName = None) -> None:
    """List cron schedules, of all queues or of one, with their next run and how the last one ended."""
    if context.invoked_subcommand:
        return

    async def work(client: Client) -> dict[str, list[ScheduleStatus]]:
        names = await known_queues(client, [queue] if queue else [])
        return {name: await client.inspector.schedules(name).all() for name in names}

    found = [(name, status) for name, statuses in session.run(work).items() for status in statuses]
    value = [{"queue": name, "schedule": status} for name, status in found]
    session.show(value, lambda: print_table(_COLUMNS, [_row(name, status) for name, status in found]))


@with_session
def run(session: Session, name: Name, queue: QueueName = "default") -> None:
    """Start a run now, beside the scheduled ones. Prints its task id."""
    task_id = _act(session, queue, lambda schedules: schedules.run_now(name))
    session.show({"task_id": task_id}, task_id)


@with_session
def pause(session: Session, name: Name, queue: QueueName = "default") -> None:
    """Start no more runs until resumed, even if the schedule is declared again."""
    changed = _act(session, queue, lambda schedules: schedules.pause(name))
    session.show({"schedule": name, "paused": True, "changed": changed}, f"{name}: {'paused' if changed else 'already paused'}")


@with_session
def resume(session: Session, name: Name, queue: QueueName = "default") -> None:
    """Resume a paused schedule at its next moment; runs missed while paused are not made up."""
    changed = _act(session, queue, lambda schedules: schedules.resume(name))
    session.show({"schedule": name, "paused": False, "changed": changed}, f"{name}: {'resumed' if changed else 'not paused'}")


@with_session
def delete(session: Session, name: Name, queue: QueueName = "default") -> None:
    """Delete a schedule that is no longer declared. One that still is comes back within seconds."""
    _act(session, queue, lambda schedules: schedules.remove(name))
    session.show({"schedule": name, "deleted": True}, f"{name}: deleted")


def _act(session: Session, queue: str, work: Callable[[Schedules], Awaitable[T]]) -> T:
    return session.run(lambda client: work(client.inspector.schedules(check_queue(queue))))


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
