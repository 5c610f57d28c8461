"""`stoker tasks` and `stoker task ID`: list tasks, show one."""

from typing import Annotated

import typer

from stoker.cli.options import MaybeQueueName, QueueName
from stoker.cli.output import print_fields, print_table, since
from stoker.cli.session import Session, find, with_session
from stoker.client.client import Client
from stoker.queue.reads.reader import PAGE
from stoker.queue.records import TaskStatus
from stoker.rules.history import PastFailure, Progress
from stoker.rules.message import check_queue
from stoker.rules.states import TaskState

DEFAULT_LIMIT = 50
TaskId = Annotated[str, typer.Argument(metavar="ID", help="The task's id.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Maximum number to show.")]
_COLUMNS = ("ID", "TASK", "PRIORITY", "ATTEMPTS", "CREATED", "WHEN", "LAST FAILURE")
_WHEN = {
    TaskState.SCHEDULED: "due",
    TaskState.RUNNING: "lease ends",
    TaskState.DEAD: "died",
    TaskState.SUCCEEDED: "removed",
}


@with_session
def tasks(
    session: Session,
    queue: QueueName = "default",
    state: Annotated[TaskState, typer.Option("--state", "-s", help="Tasks in this state.")] = TaskState.READY,
    limit: Limit = DEFAULT_LIMIT,
) -> None:
    """List tasks: ready ones in the order they will run, scheduled ones by due time, ended ones newest first."""
    found = session.run(lambda client: some(client, check_queue(queue), state, limit))
    session.show(found, lambda: print_tasks(found))


@with_session
def task(session: Session, task_id: TaskId, queue: MaybeQueueName = None) -> None:
    """Show one task: state, attempts, failures, progress, log lines, result."""
    found = session.run(lambda client: find(client, task_id, queue))
    session.show(found, lambda: print_task(found))


async def some(client: Client, queue: str, state: TaskState, limit: int | None) -> list[TaskStatus]:
    """Tasks of one state, page by page; all of them without a limit."""
    found: dict[str, TaskStatus] = {}  # by id: tasks move while pages are read, so that one may be seen twice
    cursor: int | None = 0
    while cursor is not None and (limit is None or len(found) < limit):
        page = await client.inspector.tasks(queue, state, cursor, PAGE)
        found |= {task.id: task for task in page.tasks}
        cursor = page.cursor
    return list(found.values())[:limit]


def print_tasks(found: list[TaskStatus]) -> None:
    """One line per task."""
    print_table(_COLUMNS, [_row(status) for status in found])


def print_task(status: TaskStatus) -> None:
    """Every field of one task."""
    fields: list[tuple[str, object]] = [
        ("id", status.id),
        ("task", status.task),
        ("queue", status.queue),
        ("state", status.state),
        ("priority", status.priority),
        ("created", since(status.created)),
        ("failed attempts", status.attempts),
        ("lost deliveries", status.losses),
        ("payload", bytes(status.payload).decode(errors="replace")),
    ]
    if status.at is not None and status.state in _WHEN:
        fields.append((_WHEN[status.state], since(status.at)))
    fields += _expiry_and_headers(status)
    if status.parked is not None:
        fields.append(("parked behind concurrency key", status.parked))
    if status.unclaimed is not None:
        fields.append(("unclaimed: no live worker knows it", since(status.unclaimed)))
    if status.progress:
        fields.append(("progress", _progress(status.progress)))
    if status.worker:
        fields.append(("worker", status.worker))
    if status.failure:
        fields.append(("last failure", f"{status.failure.type}: {status.failure.message}"))
    if status.result:
        fields.append(("result", bytes(status.result.value).decode(errors="replace")))
    print_fields(fields + history_fields(status.history))
    if status.log:
        lines = [f"  {since(line.at)}  {line.level}  attempt {line.attempt}: {line.text}" for line in status.log]
        print_fields([("log", "\n" + "\n".join(lines))])
    if status.failure and status.failure.traceback:
        print_fields([("traceback", "\n" + status.failure.traceback.rstrip())])


def _expiry_and_headers(status: TaskStatus) -> list[tuple[str, object]]:
    fields: list[tuple[str, object]] = []
    if status.expires is not None:
        fields.append(("expired" if status.expired else "expires", since(status.expires)))
    if status.headers:
        fields.append(("headers", " ".join(f"{name}={text}" for name, text in status.headers.items())))
    return fields


def history_fields(history: list[PastFailure]) -> list[tuple[str, object]]:
    """A task's last failures, one line each, and behind the one that it died of the tasks that handle its death."""
    fields: list[tuple[str, object]] = []
    for past in history:
        fields.append((f"attempt {past.attempt}", f"{since(past.at)} on {past.worker}: {past.type}: {past.message}"))
        fields += [("handled by", f"{handler.task} {handler.id} in {handler.queue}") for handler in past.handlers]
    return fields


def _progress(progress: Progress) -> str:
    """As text: "30 of 120 (25%): pages, 2.0s ago"."""
    of = f" of {progress.total:g} ({progress.done / progress.total:.0%})" if progress.total else ""
    note = f": {progress.note}" if progress.note else ""
    return f"{progress.done:g}{of}{note}, {since(progress.at)}"


def _row(status: TaskStatus) -> tuple[object, ...]:
    when = f"{_WHEN[status.state]} {since(status.at)}" if status.at is not None and status.state in _WHEN else "-"
    failure = f"{status.failure.type}: {status.failure.message}" if status.failure else "-"
    return (status.id, status.task, status.priority, status.attempts, since(status.created), when, failure)
