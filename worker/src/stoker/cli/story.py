"""`stoker events` and `stoker why ID`: what happens in a queue, and why a task is where it is."""

import time
from typing import Annotated

import typer

from stoker.cli.options import AsJson, MaybeQueueName, Namespace, QueueName, RedisUrl
from stoker.cli.output import print_fields, print_json, printable, seconds
from stoker.cli.session import find, run
from stoker.cli.tasks import TaskId, history_fields
from stoker.client.client import Client
from stoker.queue.reads.reader import PAGE
from stoker.rules.history import Event
from stoker.rules.message import check_queue
from stoker.rules.why import Explanation
from stoker.settings import DEFAULT_NAMESPACE, DEFAULT_REDIS_URL


def events(
    queue: QueueName = "default",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show what happens from now on, until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Without --follow: show at most so many.")] = PAGE,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Show what happens to the tasks of a queue. Nothing is written down while nobody watches (--follow, or the web page)."""
    check_queue(queue)

    async def work(client: Client) -> None:
        if follow:
            async for event in client.inspector.events(queue):
                _print_event(event, as_json=as_json)
            return
        for event in await client.inspector.latest_events(queue, limit):
            _print_event(event, as_json=as_json)

    try:
        run(redis_url, namespace, work)
    except KeyboardInterrupt:  # the usual end of --follow
        raise typer.Exit from None


def why(
    task_id: TaskId,
    queue: MaybeQueueName = None,
    as_json: AsJson = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Explain why a task is where it is: its place in line, when it may end, what holds it back, what went wrong before."""

    async def work(client: Client) -> Explanation:
        name = queue or (await find(client, task_id, None)).queue
        return await client.inspector.explain(name, task_id)

    explanation = run(redis_url, namespace, work)
    if as_json:
        print_json(explanation)
    else:
        _print_explanation(explanation)


def _print_event(event: Event, *, as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    moment = time.strftime("%H:%M:%S", time.localtime(event.at / 1000)) + f".{event.at % 1000:03d}"
    parts = (moment, f"{event.what:<16}", event.id, event.task, event.detail, f"on {event.worker}" if event.worker else None)
    print(printable("  ".join(part for part in parts if part)).rstrip(), flush=True)


def _print_explanation(explanation: Explanation) -> None:
    fields: list[tuple[str, object]] = [
        ("id", explanation.id),
        ("task", explanation.task),
        ("queue", explanation.queue),
        ("state", explanation.state),
    ]
    fields += [("why" if at == 0 else "and", reason.text) for at, reason in enumerate(explanation.reasons)]
    if explanation.eta is not None:
        fields.append(("ends in about", seconds(explanation.eta)))
    if explanation.failure:
        fields.append(("last failure", explanation.failure))
    print_fields(fields + history_fields(explanation.history))
