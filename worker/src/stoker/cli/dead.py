"""`stoker dead`: list, show, redrive and delete dead tasks."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from stoker.cli.options import MaybeQueueName, QueueName
from stoker.cli.progress import counted, in_chunks
from stoker.cli.session import Session, find, with_session
from stoker.cli.tasks import DEFAULT_LIMIT, Limit, TaskId, print_task, print_tasks, some
from stoker.client.client import Client
from stoker.errors import NotFound
from stoker.queue.records import TaskStatus
from stoker.rules.message import check_queue
from stoker.rules.states import TaskState

AT_ONCE = 500
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Task ids.")]
All = Annotated[bool, typer.Option("--all", help="Every task dead in --queue now.")]
Act = Callable[[Client, str, Sequence[str]], Awaitable[list[str]]]


def build() -> typer.Typer:
    """The group `dead`."""
    group = typer.Typer(name="dead", help="Dead tasks: list, show, redrive, delete.", no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_dead)
    group.command("show")(show)
    group.command("redrive")(redrive)
    group.command("delete")(delete)
    return group


@with_session
def list_dead(session: Session, queue: QueueName = "default", limit: Limit = DEFAULT_LIMIT) -> None:
    """List dead tasks, newest first."""
    found = session.run(lambda client: some(client, check_queue(queue), TaskState.DEAD, limit))
    session.show(found, lambda: print_tasks(found))


@with_session
def show(session: Session, task_id: TaskId, queue: MaybeQueueName = None) -> None:
    """Show one dead task with its failure and traceback."""

    async def work(client: Client) -> TaskStatus:
        found = await find(client, task_id, queue)
        if found.state is not TaskState.DEAD:
            raise NotFound(f"task {task_id!r} is not dead, it is {found.state}: stoker task {task_id}")
        return found

    found = session.run(work)
    session.show(found, lambda: print_task(found))


@with_session
def redrive(
    session: Session,
    ids: Ids = None,
    everything: All = False,
    task: Annotated[str, typer.Option("--task", help="Every dead task of this name in --queue.")] = "",
    failure: Annotated[str, typer.Option("--failure", help="Every task in --queue that died of this failure type.")] = "",
    per_second: Annotated[float, typer.Option("--per-second", min=0, help="With --all, --task, --failure: maximum rate.")] = 0.0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="With --all, --task, --failure: maximum number.")] = None,
    queue: MaybeQueueName = None,
) -> None:
    """Run dead tasks again, with fresh attempts: those with the given ids, or all that match, longest dead first."""
    matching = everything or bool(task or failure)
    _check_choice(ids, matching, queue, "--all, --task or --failure")
    if ids and (per_second or limit):
        raise typer.BadParameter("--per-second and --limit go with --all, --task or --failure")
    if ids:
        moved = session.run(lambda client: _each(client, ids, queue, "redriving", lambda c, q, part: c.inspector.redrive(q, part)))
        _report(session, "redriven", moved, ids)
        return

    async def work(client: Client) -> list[str]:
        name = check_queue(queue or "")
        pages = client.inspector.redrive_all(name, task=task, failure=failure, per_second=per_second, limit=limit)
        return [task_id async for page in counted(pages, "redriving") for task_id in page]

    _report(session, "redriven", session.run(work), [])


@with_session
def delete(
    session: Session,
    ids: Ids = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    queue: MaybeQueueName = None,
) -> None:
    """Delete dead tasks. There is no undo."""
    _check_choice(ids, everything, queue, "--all")
    if everything and not yes:
        typer.confirm(f"Delete every dead task of queue {queue}? There is no undo.", abort=True, err=True)

    async def work(client: Client) -> list[str]:
        wanted = ids or [status.id for status in await some(client, check_queue(queue or ""), TaskState.DEAD, None)]
        return await _each(client, wanted, queue, "deleting", lambda c, q, part: c.inspector.delete(q, part))

    _report(session, "deleted", session.run(work), ids or [])


def _check_choice(ids: list[str] | None, matching: bool, queue: str | None, flags: str) -> None:
    """Raises typer.BadParameter unless the command names its tasks one way: by ids, or by flags together with --queue."""
    if bool(ids) == matching:
        raise typer.BadParameter(f"give ids, or {flags} with --queue")
    if matching and queue is None:
        raise typer.BadParameter(f"{flags} needs --queue")


async def _each(client: Client, ids: list[str], queue: str | None, label: str, act: Act) -> list[str]:
    """Act on tasks by id, queue by queue. Returns the ids of those that were dead."""
    moved: list[str] = []
    for name, members in (await _by_queue(client, ids, queue)).items():
        for part in in_chunks(members, AT_ONCE, label):
            moved += await act(client, name, part)
    return moved


async def _by_queue(client: Client, ids: list[str], queue: str | None) -> dict[str, list[str]]:
    if queue is not None:
        return {check_queue(queue): ids}
    queues: defaultdict[str, list[str]] = defaultdict(list)
    for task_id in ids:
        try:
            queues[(await client.inspector.find(task_id)).queue].append(task_id)
        except NotFound:
            continue  # reported as missing, after the others are done
    return queues


def _report(session: Session, done: str, moved: list[str], wanted: list[str]) -> None:
    """Print how many; raise NotFound for those asked for by id that are not dead."""
    missing = [task_id for task_id in wanted if task_id not in moved]
    session.show({done: len(moved), "missing": missing}, f"{done} {len(moved)}")
    if missing:
        raise NotFound(f"not dead: {', '.join(missing)}")
