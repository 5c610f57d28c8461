"""Workflows as data: the steps of a chain, their ids, and their JSON in envelopes, joins and outboxes.

A chain is a tuple of steps, each a task or a group of chains. The envelope of a task carries the steps after it, so the script
that settles the task also enqueues the next one. A group has a join in Redis, which counts the members that have succeeded.
What a success or a launch sets off: `effects.py`.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from stoker.errors import Invalid
from stoker.rules.admission import Admission
from stoker.rules.message import Message, digest
from stoker.rules.partitions import PartitionKey

MAX_MEMBERS = 10_000
MAX_DEPTH = 20
"""Groups within groups."""
MAX_WORKFLOW_BYTES = 8 * 1024 * 1024
"""Of one workflow as JSON, with all payloads."""
NO_RESULT = Raw(b"null")
HOLE = Raw(b"\x1e")
"""Marks where a join inserts the results of its members. JSON text never contains this byte."""
PLACEHOLDER = "(group)"
"""The task name of a placeholder whose group is not followed by a single task."""


class Member(Struct, frozen=True, array_like=True):
    """Member number `at` of the join with this id, which lies in this partition."""

    partition: str
    join: str
    at: int


class TaskStep(Admission, frozen=True, tag="task", omit_defaults=True):
    """A task of a chain. Its message lacks what is known only at enqueue: created, trace, onward.

    `into` is the parameter that takes the result of the step before. `delay` counts from the enqueue.
    """

    into: str | None = None


class GroupStep(Struct, frozen=True, tag="group", omit_defaults=True):
    """Chains that run side by side. Their join has this `id` and lies in this `queue`.

    `on_failure`: what handles the first death in them, until `number` gives it to each of their tasks.
    """

    members: tuple[tuple["Step", ...], ...]
    id: str = ""
    queue: str = ""
    on_failure: tuple["TaskStep", ...] = ()


Step = TaskStep | GroupStep
Steps = tuple[Step, ...]


class Onward(Struct, frozen=True, omit_defaults=True):
    """What follows a task: the rest of its chain, then the join that the chain is a member of.

    The links of one call begin beside these: `on_success` with its result, `on_failure` with its story when it is dead
    (rules/dead_task.py). Their ids are made when they begin.
    """

    steps: Steps = ()
    member: Member | None = None
    on_success: tuple[Steps, ...] = ()
    on_failure: tuple[TaskStep, ...] = ()


class Origin(Struct, frozen=True):
    """What tasks inherit from the run or launch that enqueues them: epoch ms of that process' clock, and the trace context."""

    created: int
    trace: dict[str, str] = {}


class OutboxEntry(Struct, frozen=True, omit_defaults=True):
    """A chain to begin, with the result that its first step takes. Waits in an outbox where it cannot begin at once.

    `key` is unique for all time: what was begun under it is not begun again.
    """

    key: str
    origin: Origin
    steps: Steps = ()
    member: Member | None = None
    value: Raw = NO_RESULT


T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_onward = msgspec.json.Decoder(Onward)
_step = msgspec.json.Decoder(TaskStep)
_entry = msgspec.json.Decoder(OutboxEntry)
_chains = msgspec.json.Decoder(tuple[Steps, ...])


def dump_onward(steps: Steps, member: Member | None = None, links: Raw | UnsetType = UNSET) -> Raw | UnsetType:
    """The `onward` field of an envelope; UNSET where nothing follows. `links`: an earlier one, whose links are kept."""
    if links is not UNSET:
        return Raw(_encode(replace(load_onward(links), steps=steps, member=member)))
    return Raw(_encode(Onward(steps, member))) if steps or member else UNSET


def dump_links(on_success: tuple[Steps, ...], on_failure: tuple[TaskStep, ...]) -> Raw | UnsetType:
    """The `onward` field of a task that is called with these links. Raises Invalid above MAX_WORKFLOW_BYTES."""
    if not on_success and not on_failure:
        return UNSET
    raw = _encode(Onward(on_success=on_success, on_failure=on_failure))
    _check_bytes(len(raw))
    return Raw(raw)


def linked_chains(chains: Sequence[Steps], message: Message) -> list[Steps]:
    """What a call's `on_success` begins, with the same ids at every delivery of this message."""
    root = root_of(message.id, message.created)
    return [number(chain, f"{root}.s{at}") for at, chain in enumerate(chains)]


def with_handlers(steps: Steps, handlers: tuple[TaskStep, ...]) -> Steps:
    """The same steps, in which each task has these handlers of its death too."""
    return tuple(
        _with_handlers(step, handlers)
        if isinstance(step, TaskStep)
        else replace(step, members=tuple(with_handlers(chain, handlers) for chain in step.members))
        for step in steps
    )


def _with_handlers(step: TaskStep, handlers: tuple[TaskStep, ...]) -> TaskStep:
    links = load_onward(step.message.onward)
    onward = Raw(_encode(replace(links, on_failure=links.on_failure + handlers)))
    return replace(step, message=replace(step.message, onward=onward))


def load_onward(raw: Raw | UnsetType) -> Onward:
    """Raises Invalid for malformed JSON."""
    return Onward() if raw is UNSET else _load(_onward, raw, "the onward field of the envelope cannot be read")


def dump_chains(chains: Sequence[Steps]) -> bytes:
    """The chains that a run has enqueued, as a child process sends them to its worker."""
    return _encode(chains)


def load_chains(raw: bytes) -> tuple[Steps, ...]:
    """Raises Invalid for malformed JSON."""
    return _load(_chains, raw, "the enqueued chains cannot be read") if raw else ()


def load_step(raw: bytes) -> TaskStep:
    """A handler that a worker has announced. Raises Invalid for malformed JSON."""
    return _load(_step, raw, "the announced handler cannot be read")


def dump_entry(entry: OutboxEntry) -> bytes:
    """The `body` field of an outbox's stream entry."""
    return _encode(entry)


def load_entry(body: bytes) -> OutboxEntry:
    """Raises Invalid for malformed JSON."""
    return _load(_entry, body, "not an entry of an outbox")


def _load(decoder: msgspec.json.Decoder[T], raw: bytes, complaint: str) -> T:
    try:
        return decoder.decode(raw)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"{complaint}: {error}") from error


def takes_result(steps: Steps, member: Member | None) -> bool:
    """Whether the first steps, or the join where there are none, take the result of what comes before."""
    if not steps:
        return member is not None
    if isinstance(steps[0], TaskStep):
        return steps[0].into is not None
    return any(takes_result(chain, None) for chain in steps[0].members)


def check_start(steps: Steps) -> Steps:
    """Raises Invalid for a workflow without a task, and for one whose first step takes a result."""
    if not any(True for _ in task_steps([steps])):
        raise Invalid("a workflow without a task: there is nothing to enqueue")
    if takes_result(steps, None):
        raise Invalid("what begins a workflow has no result to take: prepare() it with all its arguments, instead of piped()")
    return steps


def check_size(steps: Steps) -> Steps:
    """Raises Invalid above MAX_WORKFLOW_BYTES."""
    _check_bytes(len(_encode(steps)))
    return steps


def _check_bytes(size: int) -> None:
    if size > MAX_WORKFLOW_BYTES:
        raise Invalid(f"the workflow has {size} bytes, at most {MAX_WORKFLOW_BYTES} are allowed: pass references instead of data")


def root_of(task_id: str, created: int) -> str:
    """The prefix of the ids of all tasks that follow this one: the same at every delivery, unique to the task."""
    return digest(task_id, str(created))


def number(steps: Steps, root: str, *, first: str | None = None) -> Steps:
    """The same chain with ids `<root>.<n>` for its tasks and joins; `first`, if given, is the id of the first task.

    The same chain and root always result in the same ids. A join has the id of the task that follows it, if one does.
    Raises Invalid for groups that are too large or too deep.
    """
    numbered = _numbered(steps, (f"{root}.{n}" for n in count(1)), 0)
    if first and numbered and isinstance(head := numbered[0], TaskStep):
        numbered = (_with_id(head, first), *numbered[1:])
    return numbered


def _numbered(chain: Steps, ids: Iterator[str], depth: int) -> Steps:
    steps = [_with_id(step, next(ids)) if isinstance(step, TaskStep) else _with_members(step, ids, depth) for step in chain]
    for at, step in enumerate(steps):
        if isinstance(step, GroupStep):
            following = steps[at + 1] if at + 1 < len(steps) else None
            if isinstance(following, TaskStep):
                steps[at] = replace(step, id=following.message.id, queue=following.message.queue)
            else:
                steps[at] = replace(step, id=next(ids), queue=_first_queue(step.members))
    return tuple(_handled(step) if isinstance(step, GroupStep) and step.on_failure else step for step in steps)


def _handled(group: GroupStep) -> GroupStep:
    """The same group, whose members have its handlers. Their ids are the group's, so each is enqueued once."""
    handlers = tuple(_with_id(step, f"{group.id}.f{at}") for at, step in enumerate(group.on_failure, 1))
    return replace(group, members=tuple(with_handlers(chain, handlers) for chain in group.members), on_failure=())


def _with_members(group: GroupStep, ids: Iterator[str], depth: int) -> GroupStep:
    if depth > MAX_DEPTH:
        raise Invalid(f"groups within groups: at most {MAX_DEPTH} deep")
    if (size := len(group.members)) > MAX_MEMBERS:
        raise Invalid(f"a group of {size}: at most {MAX_MEMBERS} are allowed, start further groups from its members")
    return replace(group, members=tuple(_numbered(chain, ids, depth + 1) for chain in group.members))


def _with_id(step: TaskStep, task_id: str) -> TaskStep:
    return replace(step, message=replace(step.message, id=task_id))


def task_steps(chains: Sequence[Steps]) -> Iterator[TaskStep]:
    """All tasks, in the order in which they are written."""
    for chain in chains:
        for step in chain:
            if isinstance(step, TaskStep):
                yield step
            else:
                yield from task_steps(step.members)


def tasks_and_placeholders(steps: Steps, *, joined: bool = False) -> Iterator[tuple[PartitionKey, Message]]:
    """Whatever a numbered chain may put into a queue, for a cancellation; `joined` where the chain is a member of a group."""
    for at, step in enumerate(steps):
        if isinstance(step, TaskStep):
            yield step.partition_key, step.message
            continue
        is_last = at == len(steps) - 1
        for member in step.members:
            yield from tasks_and_placeholders(member, joined=joined or not is_last)
        if (joined or not is_last) and (is_last or isinstance(steps[at + 1], GroupStep)):
            yield PartitionKey(step.id), placeholder(step, 0)


def placeholder(group: GroupStep, created: int, onward: Raw | UnsetType = UNSET) -> Message:
    """The task that is buried where the group fails and is not followed by a single task. A redrive continues with `onward`."""
    return Message(group.id, PLACEHOLDER, Raw(b"{}"), group.queue, created, onward=onward)


def queues_of(chains: Sequence[Steps]) -> set[str]:
    """The queues of all tasks and joins."""
    found: set[str] = set()
    for chain in chains:
        for step in chain:
            found |= {step.message.queue} if isinstance(step, TaskStep) else {step.queue, *queues_of(step.members)}
    return found - {""}


def home_queue(steps: Steps) -> str:
    """The queue in which a numbered chain begins: its first task's, or that of its first group's join."""
    return next((step.queue if isinstance(step, GroupStep) else step.message.queue for step in steps), "")


def _first_queue(chains: Sequence[Steps]) -> str:
    return next((step.message.queue for step in task_steps(chains)), "")
