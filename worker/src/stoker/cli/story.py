"""`stoker events` and `stoker why ID`: what happens in a queue, and why a task has not finished."""

import time
from typing import Annotated

import typer

from stoker.cli.options import MaybeQueueName, QueueName
from stoker.cli.output import print_fields, print_json, seconds
from stoker.cli.session import Session, find, with_session
from stoker.cli.tasks import TaskId, history_fields
from stoker.client.client import Client
from stoker.queue.reads.reader import PAGE
from stoker.rules.history import Event
from stoker.rules.message import check_queue
from stoker.rules.printable import printable
from stoker.rules.why import Explanation


@with_session
def events(
    session: Session,
    queue: QueueName = "default",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show events as they happen, until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Without --follow: maximum number to show.")] = PAGE,
) -> None:
    """Show the events of a queue's tasks. They are recorded only while some reader follows them, and kept for 10 minutes."""
    check_queue(queue)

    async def work(client: Client) -> None:
        if follow:
            async for event in client.inspector.events(queue):
                _print_event(event, as_json=session.as_json)
            return
        for event in await client.inspector.latest_events(queue, limit):
            _print_event(event, as_json=session.as_json)

    try:
        session.run(work)
    except KeyboardInterrupt:  # the usual end of --follow
        raise typer.Exit from None


@with_session
def why(session: Session, task_id: TaskId, queue: MaybeQueueName = None) -> None:
    """Explain why a task has not finished: its position, ETA, what blocks it, earlier failures."""

    async def work(client: Client) -> Explanation:
        name = queue or (await find(client, task_id, None)).queue
        return await client.inspector.explain(name, task_id)

    explanation = session.run(work)
    session.show(explanation, lambda: _print_explanation(explanation))


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
        fields.append(("ETA", seconds(explanation.eta)))
    if explanation.failure:
        fields.append(("last failure", explanation.failure))
    print_fields(fields + history_fields(explanation.history))
