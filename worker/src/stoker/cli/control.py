"""What a person does to tasks and queues: cancel, pause, resume, purge, examine."""

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from stoker.cli.options import AsJson, MaybeQueueName, Namespace, QueueName, RedisUrl
from stoker.cli.output import print_json, print_table
from stoker.cli.session import find, known_queues, run
from stoker.client.client import Client
from stoker.errors import Invalid, NotFound
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.inspector import Cancellation
from stoker.rules.states import TaskState
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL

DAMAGED = 4
"""Exit code of `doctor` where it found something that it was not asked to mend."""


def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Which tasks.")],
    queue: MaybeQueueName = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Cancel tasks: waiting ones at once, running ones when their worker hears of it."""

    async def work(client: Client) -> dict[str, Cancellation]:
        answers = {}
        for task_id in ids:
            where = queue or (await find(client, task_id, None)).queue
            [answers[task_id]] = await client.inspector.cancel(where, [task_id])
        return answers

    answers = run(redis_url, namespace, work)
    if as_json:
        print_json(answers)
    else:
        print_table(("ID", "ANSWER"), list(answers.items()))
    if unknown := [task_id for task_id, answer in answers.items() if answer is Cancellation.UNKNOWN]:
        raise NotFound(f"no such task: {', '.join(unknown)}")


def pause(queue: QueueName = "default", redis_url: RedisUrl = DEFAULT_REDIS_URL, namespace: Namespace = DEFAULT_NAMESPACE) -> None:
    """Let workers fetch nothing more from a queue; what runs goes on."""
    news = run(redis_url, namespace, lambda client: _set_paused(client, queue, paused=True))
    print(f"{queue} is paused" if news else f"{queue} was paused already")


def resume(queue: QueueName = "default", redis_url: RedisUrl = DEFAULT_REDIS_URL, namespace: Namespace = DEFAULT_NAMESPACE) -> None:
    """Let workers fetch from a queue again."""
    news = run(redis_url, namespace, lambda client: _set_paused(client, queue, paused=False))
    print(f"{queue} goes on" if news else f"{queue} was not paused")


def purge(
    queue: QueueName = "default",
    state: Annotated[TaskState, typer.Option("--state", help="Which tasks; running ones cannot be purged.")] = TaskState.READY,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Remove all tasks of one state from a queue, for good."""
    if state is TaskState.RUNNING:
        raise Invalid("running tasks cannot be purged: cancel them, or pause the queue and wait")
    if not yes:
        typer.confirm(f"Remove every {state} task of queue {queue} for good?", abort=True, err=True)

    async def work(client: Client) -> int:
        await known_queues(client, [queue])
        return sum([gone async for gone in client.inspector.purge(queue, state)])

    print(f"removed {run(redis_url, namespace, work)}")


def doctor(
    queue: Annotated[list[str] | None, typer.Argument(metavar="QUEUE", help="Default: all.")] = None,
    mend: Annotated[bool, typer.Option("--mend", help="Put right what is wrong: nothing is lost, a task may run twice.")] = False,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Prove that every task is in exactly one place, and that what follows from tasks is on its way, on a live queue.

    Exits with 4 where something is wrong and stays so.
    """

    async def work(client: Client) -> dict[str, list[Finding]]:
        names = await known_queues(client, queue or [])
        return {name: await _all(client.inspector.examine(name, mend=mend)) for name in names}

    found = run(redis_url, namespace, work)
    rows = [(name, *finding[:2], "mended" if finding.mended else "") for name, findings in found.items() for finding in findings]
    if as_json:
        print_json(
            [{"queue": name, "id": task_id, "trouble": trouble, "mended": bool(done)} for name, task_id, trouble, done in rows]
        )
    elif rows:
        print_table(("QUEUE", "ID", "TROUBLE", "MENDED"), rows)
    else:
        print(f"sound: {', '.join(found) or 'no queues yet'}")
    if not all(finding.mended for findings in found.values() for finding in findings):
        raise typer.Exit(DAMAGED)


async def _set_paused(client: Client, queue: str, *, paused: bool) -> bool:
    await known_queues(client, [queue])
    return await (client.inspector.pause(queue) if paused else client.inspector.resume(queue))


async def _all(findings: AsyncIterator[Finding]) -> list[Finding]:
    return [finding async for finding in findings]
