"""`stoker schedules`: cron schedules and their next runs; run, pause, resume, change or delete one."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, tzinfo
from typing import Annotated, TypeVar

import typer

from stoker.cli.options import MaybeQueueName, QueueName, duration
from stoker.cli.output import print_table, since
from stoker.cli.session import Session, known_queues, with_session
from stoker.client.client import Client
from stoker.queue.schedules import KnownSchedule, Schedules, ScheduleStatus
from stoker.rules.message import check_queue
from stoker.rules.schedule import CatchUp, Overlap, next_moments, zone_of

T = TypeVar("T")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
MOST_NEXT = 1000
_COLUMNS = ("QUEUE", "NAME", "CRON", "ZONE", "TASK", "NEXT RUN", "LAST RUN", "ENDED", "SKIPPED", "MISSED", "SOURCE")


def build() -> typer.Typer:
    """The group `schedules`; with no subcommand it lists."""
    help_text = "Cron schedules. With no subcommand, lists them with their next run."
    group = typer.Typer(name="schedules", help=help_text, invoke_without_command=True, rich_markup_mode=None)
    group.callback()(list_schedules)
    group.command("next")(following)
    group.command("set")(override)
    group.command("reset")(reset)
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
def following(
    session: Session,
    name: Name,
    queue: QueueName = "default",
    count: Annotated[int, typer.Option("--count", "-c", min=1, max=MOST_NEXT, help="Number of runs.")] = 5,
) -> None:
    """Print the next runs, in the schedule's time zone and in local time."""

    async def work(client: Client) -> tuple[KnownSchedule, list[int]]:
        schedules = client.inspector.schedules(check_queue(queue))
        found = await schedules.one(name)
        return found, next_moments(found.definition.timing, await schedules.now(), count)

    (definition, status), moments = session.run(work)
    zone = zone_of(definition.timing.time_zone)
    rows = [(_time(moment, zone), _time(moment, None), since(moment)) for moment in moments]
    value = [{"moment": moment, "at": datetime.fromtimestamp(moment / 1000, zone).isoformat()} for moment in moments]

    def show() -> None:
        if status.next_run is None:
            print(f"{name} is {_next(status)}: it would run")
        print_table((definition.timing.time_zone.upper(), "LOCAL TIME", "IN"), rows)

    session.show({"schedule": name, "paused": status.paused, "next": value}, show)


@with_session
def override(
    session: Session,
    name: Name,
    queue: QueueName = "default",
    expression: Annotated[str | None, typer.Option("--cron", metavar="EXPRESSION", help="Cron expression, or @every 90s.")] = None,
    time_zone: Annotated[str | None, typer.Option("--time-zone", metavar="ZONE", help="IANA name, such as Europe/Berlin.")] = None,
    overlap: Annotated[Overlap | None, typer.Option("--overlap", help="Whether runs may overlap.")] = None,
    catch_up: Annotated[CatchUp | None, typer.Option("--catch-up", help="Which of the missed runs starts.")] = None,
    jitter: Annotated[
        float | None, typer.Option("--jitter", parser=duration, metavar="DURATION", help="Delay of up to this.")
    ] = None,
) -> None:
    """Change when a schedule of the code runs, until `reset`: redeploys leave it as it is."""
    given = {"cron": expression, "time_zone": time_zone, "overlap": overlap, "catch_up": catch_up, "jitter": jitter}
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change: give --cron, --time-zone, --overlap, --catch-up or --jitter")
    definition = _act(session, queue, lambda schedules: schedules.override(name, changes))
    timing = definition.timing
    session.show(
        {"schedule": name, "definition": definition},
        f"{name}: {timing.cron} {timing.time_zone}, until `stoker schedules reset {name}`",
    )


@with_session
def reset(session: Session, name: Name, queue: QueueName = "default") -> None:
    """Drop what `set` has changed. A running worker declares its code's schedule again within seconds, else the next one."""
    changed = _act(session, queue, lambda schedules: schedules.reset(name))
    words = "reset" if changed else "as declared, nothing to reset"
    session.show({"schedule": name, "changed": changed}, f"{name}: {words}")


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


def _time(moment: int, zone: tzinfo | None) -> str:
    """With the offset, which tells the two hours of a change from summer time apart."""
    return f"{datetime.fromtimestamp(moment / 1000, UTC).astimezone(zone):%a %Y-%m-%d %H:%M:%S %z}"


def _next(status: ScheduleStatus) -> str:
    if status.next_run is None:
        return "paused" if status.paused else "suspended"
    return f"{datetime.fromtimestamp(status.next_run / 1000, UTC):%Y-%m-%d %H:%M:%SZ} ({since(status.next_run)})"
