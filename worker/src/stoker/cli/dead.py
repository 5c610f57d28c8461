"""`stoker dead`: the dead letters, and a person's ways out of them."""

import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from stoker.cli.options import AsJson, MaybeQueueName, Namespace, QueueName, RedisUrl
from stoker.cli.output import print_json
from stoker.cli.progress import in_chunks
from stoker.cli.session import find, run
from stoker.cli.tasks import DEFAULT_LIMIT, Limit, TaskId, print_task, print_tasks, some
from stoker.client.client import Client
from stoker.errors import NotFound
from stoker.queue.records import TaskStatus
from stoker.rules.message import check_queue
from stoker.rules.states import TaskState
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL

AT_ONCE = 500
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Which ones.")]
All = Annotated[bool, typer.Option("--all", help="All that are dead in --queue now.")]
Move = Callable[[Client, str, Sequence[str]], Awaitable[list[str]]]


def build() -> typer.Typer:
    """The group `dead`."""
    group = typer.Typer(name="dead", help="Tasks that failed for good.", no_args_is_help=True, rich_markup_mode=None)
    group.command("ls")(ls)
    group.command("show")(show)
    group.command("retry")(retry)
    group.command("redrive")(redrive)
    group.command("rm")(remove)
    return group


def ls(
    queue: QueueName = "default",
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """List dead tasks, newest first."""
    found = run(redis_url, namespace, lambda client: some(client, check_queue(queue), TaskState.DEAD, limit))
    if as_json:
        print_json(found)
    else:
        print_tasks(found)


def show(
    task_id: TaskId,
    queue: MaybeQueueName = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Show one dead task with its failure."""

    async def work(client: Client) -> TaskStatus:
        found = await find(client, task_id, queue)
        if found.state is not TaskState.DEAD:
            raise NotFound(f"task {task_id!r} is not dead, it is {found.state}: stoker task {task_id}")
        return found

    found = run(redis_url, namespace, work)
    if as_json:
        print_json(found)
    else:
        print_task(found)


def retry(
    ids: Ids = None,
    everything: All = False,
    queue: MaybeQueueName = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Give dead tasks another life, with fresh attempts."""
    wanted = _wanted(ids, everything, queue)
    moved = run(
        redis_url,
        namespace,
        lambda client: _move(client, wanted, queue, "retrying", lambda c, q, part: c.inspector.redrive(q, part)),
    )
    _report("retried", moved, wanted, as_json)


def redrive(
    queue: QueueName = "default",
    task: Annotated[str, typer.Option("--task", help="Only tasks of this name.")] = "",
    failure: Annotated[str, typer.Option("--failure", help="Only those that died of this type of failure.")] = "",
    per_second: Annotated[float, typer.Option("--per-second", min=0, help="No faster than this; 0 = at once.")] = 0.0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="No more than so many.")] = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Give all dead tasks of one kind another life, the longest dead first, at a bearable pace."""

    async def work(client: Client) -> int:
        pages = client.inspector.redrive_all(check_queue(queue), task=task, failure=failure, per_second=per_second, limit=limit)
        return sum([len(page) async for page in pages])

    moved = run(redis_url, namespace, work)
    if as_json:
        print_json({"redriven": moved})
    else:
        print(f"redriven {moved}")


def remove(
    ids: Ids = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    queue: MaybeQueueName = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Remove dead tasks for good."""
    wanted = _wanted(ids, everything, queue)
    if everything and not yes:
        typer.confirm(f"Remove every dead task of queue {queue} for good?", abort=True, err=True)
    moved = run(
        redis_url,
        namespace,
        lambda client: _move(client, wanted, queue, "removing", lambda c, q, part: c.inspector.discard(q, part)),
    )
    _report("removed", moved, wanted, as_json)


def _wanted(ids: list[str] | None, everything: bool, queue: str | None) -> list[str] | None:
    """The ids, or None for all of the queue. Raises typer.BadParameter where it is unclear which are meant."""
    if bool(ids) == everything:
        raise typer.BadParameter("say which: give ids, or --all with --queue")
    if everything and queue is None:
        raise typer.BadParameter("--all needs --queue: say whose dead letters")
    return ids or None


async def _move(client: Client, wanted: list[str] | None, queue: str | None, label: str, move: Move) -> list[str]:
    moved: list[str] = []
    for name, members in (await _by_queue(client, wanted, queue)).items():
        for part in in_chunks(members, AT_ONCE, label):
            moved += await move(client, name, part)
    return moved


async def _by_queue(client: Client, wanted: list[str] | None, queue: str | None) -> dict[str, list[str]]:
    if wanted is None:
        # Listed first, so that a task that dies again at once is not moved forever.
        return {queue or "": [status.id for status in await some(client, check_queue(queue or ""), TaskState.DEAD, None)]}
    if queue is not None:
        return {check_queue(queue): wanted}
    places: defaultdict[str, list[str]] = defaultdict(list)
    for task_id in wanted:
        try:
            places[(await client.inspector.find(task_id)).queue].append(task_id)
        except NotFound:
            continue  # reported as missing, after the others are done
    return places


def _report(done: str, moved: list[str], wanted: list[str] | None, as_json: bool) -> None:
    missing = [task_id for task_id in wanted or [] if task_id not in moved]
    if as_json:
        print_json({done: len(moved), "missing": missing})
    else:
        print(f"{done} {len(moved)}", file=sys.stdout)
    if missing:
        raise NotFound(f"not in the dead letters: {', '.join(missing)}")
