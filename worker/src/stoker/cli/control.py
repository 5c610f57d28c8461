"""Commands that act on tasks and queues: cancel, pause, resume, purge, doctor."""

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from stoker.cli.options import MaybeQueueName, QueueName
from stoker.cli.output import print_table
from stoker.cli.session import Session, find, known_queues, with_session
from stoker.client.client import Client
from stoker.errors import Invalid, NotFound
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.inspector import Cancellation
from stoker.rules.states import TaskState

DAMAGED = 4
"""Exit code of `doctor` when damage remains."""


@with_session
def cancel(
    session: Session, ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Task ids.")], queue: MaybeQueueName = None
) -> None:
    """Cancel tasks: waiting ones at once, running ones at their worker's next heartbeat."""

    async def work(client: Client) -> dict[str, Cancellation]:
        # All are found before one is cancelled: an id that several queues have ends the command, and the others' answers.
        places = {task_id: queue or await _queue_of(client, task_id) for task_id in ids}
        answers = dict.fromkeys(ids, Cancellation.UNKNOWN)
        for task_id, place in places.items():
            if place:
                [answers[task_id]] = await client.inspector.cancel(place, [task_id])
        return answers

    answers = session.run(work)
    session.show(answers, lambda: print_table(("ID", "ANSWER"), list(answers.items())))
    if unknown := [task_id for task_id, answer in answers.items() if answer is Cancellation.UNKNOWN]:
        raise NotFound(f"no such task: {', '.join(unknown)}")


@with_session
def pause(session: Session, queue: QueueName = "default") -> None:
    """Pause a queue: workers take no more of its tasks; running ones finish."""
    changed = session.run(lambda client: _set_paused(client, queue, paused=True))
    session.show({"queue": queue, "paused": True, "changed": changed}, f"{queue}: {'paused' if changed else 'already paused'}")


@with_session
def resume(session: Session, queue: QueueName = "default") -> None:
    """Resume a paused queue."""
    changed = session.run(lambda client: _set_paused(client, queue, paused=False))
    session.show({"queue": queue, "paused": False, "changed": changed}, f"{queue}: {'resumed' if changed else 'not paused'}")


@with_session
def release_claim(
    session: Session,
    queue: QueueName = "default",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Release the claim of a TaskQueue on a queue, where its cluster is gone. A living operator claims it again."""
    if not yes:
        typer.confirm(f"Release the claim on queue {queue} of namespace {session.namespace}?", abort=True)
    holder = session.run(lambda client: client.inspector.release_claim(queue))
    if holder is None:
        raise NotFound(f"no TaskQueue claims queue {queue!r} of namespace {session.namespace!r}")
    whose = f"TaskQueue {holder.name or '(unreadable)'}, uid {holder.uid}, cluster {holder.cluster}"
    session.show({"queue": queue, "released": holder}, f"{queue}: released the claim of {whose}")


@with_session
def purge(
    session: Session,
    queue: QueueName = "default",
    state: Annotated[TaskState, typer.Option("--state", help="Remove tasks in this state; not running.")] = TaskState.READY,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove all tasks in one state from a queue. There is no undo."""
    if state is TaskState.RUNNING:
        raise Invalid("running tasks cannot be purged: cancel them, or pause the queue and wait")
    if not yes:
        typer.confirm(f"Remove every {state} task of queue {queue}? There is no undo.", abort=True, err=True)

    async def work(client: Client) -> int:
        await known_queues(client, [queue])
        return sum([gone async for gone in client.inspector.purge(queue, state)])

    purged = session.run(work)
    session.show({"queue": queue, "state": state, "purged": purged}, f"purged {purged}")


@with_session
def doctor(
    session: Session,
    queue: Annotated[list[str] | None, typer.Argument(metavar="QUEUE", help="Default: all.")] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Repair: nothing is lost, a task may run twice.")] = False,
) -> None:
    """Check live queues: every task is in exactly one place, and its follow-ups are on their way.

    Exits with 4 if damage remains.
    """

    async def work(client: Client) -> dict[str, list[Finding]]:
        names = await known_queues(client, queue or [])
        return {name: await _all(client.inspector.examine(name, mend=mend)) for name in names}

    found = session.run(work)
    rows = [(name, *finding[:2], "mended" if finding.mended else "") for name, findings in found.items() for finding in findings]
    findings = [{"queue": name, "id": task_id, "trouble": trouble, "mended": bool(done)} for name, task_id, trouble, done in rows]
    healthy = f"healthy: {', '.join(found) or 'no queues yet'}"
    session.show(findings, lambda: print_table(("QUEUE", "ID", "TROUBLE", "MENDED"), rows) if rows else print(healthy))
    if not all(finding["mended"] for finding in findings):
        raise typer.Exit(DAMAGED)


async def _queue_of(client: Client, task_id: str) -> str:
    """Where the only task of this id is, or ""."""
    try:
        return (await find(client, task_id, None)).queue
    except NotFound:
        return ""


async def _set_paused(client: Client, queue: str, *, paused: bool) -> bool:
    await known_queues(client, [queue])
    return await (client.inspector.pause(queue) if paused else client.inspector.resume(queue))


async def _all(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]
