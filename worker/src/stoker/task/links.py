"""Links of one call: what begins when its task succeeds (`on_success`), and what handles its death (`on_failure`)."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw, UnsetType

from stoker.errors import Invalid
from stoker.rules.dead_task import MOST_HANDLERS
from stoker.rules.workflow import MAX_MEMBERS, Steps, TaskStep, dump_links
from stoker.task.context import Workflow

Links = Workflow | Sequence[Workflow]
"""Prepared tasks; after a success chains and groups too."""


def onward_of(on_success: Links | None, on_failure: Links | None) -> Raw | UnsetType:
    """The links as they travel in the envelope. Raises Invalid for what cannot be one, and for too many."""
    return dump_links(tuple(_chain(link) for link in _several("on_success", on_success, MAX_MEMBERS)), handlers(on_failure))


def handlers(on_failure: Links | None) -> tuple[TaskStep, ...]:
    """What handles a death. Raises Invalid for anything but prepared tasks."""
    return tuple(_handler(link) for link in _several("on_failure", on_failure, MOST_HANDLERS))


def _several(option: str, links: Links | None, most: int) -> Sequence[Any]:
    if links is None:
        return ()
    found = links if isinstance(links, list | tuple) else (links,)
    if len(found) > most:
        raise Invalid(f"{option} has {len(found)} links: at most {most} are allowed", option)
    for link in found:
        if not hasattr(link, "_steps"):
            raise Invalid(f"bad {option} {link!r:.80}: give task.prepare(...) or task.piped(...)", option)
        if link._own_id is not None:
            raise Invalid(f"{option}: a link has no id or key of its own, since it may begin more than once", option)
    return found


def _chain(link: Workflow) -> Steps:
    return link._steps


def _handler(link: Workflow) -> TaskStep:
    steps = link._steps
    if len(steps) != 1 or not isinstance(step := steps[0], TaskStep):
        raise Invalid("on_failure takes single tasks: have the handler enqueue what is more", "on_failure")
    return step
