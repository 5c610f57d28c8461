"""`stoker queues`: list the names of queues, forget one."""

from typing import Annotated

import typer

from stoker.cli.session import Session, known_queues, with_session
from stoker.client.client import Client
from stoker.errors import Conflict
from stoker.queue.catalogue import IN_USE
from stoker.rules.message import check_queue

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue.")]
Everything = Annotated[bool, typer.Option("--everything", help="Delete its tasks, schedules and claim too.")]


def build() -> typer.Typer:
    """The group `queues`."""
    group = typer.Typer(name="queues", help="Names of queues: list, forget.", no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_queues)
    group.command("forget")(forget)
    return group


@with_session
def list_queues(session: Session) -> None:
    """List the names of all queues and their partitions."""
    names = session.run(lambda client: client.inspector.queues())
    session.show(names, "\n".join(names) or "no queues yet")


@with_session
def forget(
    session: Session,
    name: Name,
    everything: Everything = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete a queue that is not used: its name, totals and settings. Refuses while it has tasks, schedules, workers or a claim.

    With --everything those are deleted too; there is no undo. The next task or worker of that name begins it again.
    """
    check_queue(name)
    if everything and not yes:
        typer.confirm(
            f"Delete queue {name} of namespace {session.namespace} with all its tasks? There is no undo.", abort=True, err=True
        )

    async def work(client: Client) -> str:
        await known_queues(client, [name])
        return await client.inspector.catalogue.forget(name, everything=everything)

    if use := session.run(work):
        raise Conflict(f"queue {name!r} has {IN_USE[use]}: --everything deletes it nevertheless")
    session.show({"queue": name, "forgotten": True}, f"{name}: forgotten")
