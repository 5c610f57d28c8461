"""Workflows as data: what follows when a task has succeeded, and the items that make it so.

A chain is a tuple of steps, each a task or a group of chains. The rest of it lies in the envelope of the task before, so that
whoever settles that task enqueues the next one in the same script. A group leaves a join in Redis, which counts its members in.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from stoker.errors import Invalid
from stoker.rules.concurrency import Limit
from stoker.rules.message import Message, digest
from stoker.rules.partitions import Kind
from stoker.rules.unique import Claim

MAX_MEMBERS = 10_000
MAX_PLAN_BYTES = 8 * 1024 * 1024
"""Of one workflow, with all payloads, as JSON."""
MAX_DEPTH = 20
"""Groups within groups."""
NO_RESULT = Raw(b"null")
HOLE = Raw(b"\x1e")
"""Stands where a join will put its members' results. JSON text never holds this byte as it is."""
STANDIN = "(group)"
"""The task that a dead letter names where a group was to be followed by no single task."""


class Member(Struct, frozen=True, array_like=True):
    """Member number `at` of the join with this id, which is counted in that place."""

    place: str
    join: str
    at: int


class Link(Struct, frozen=True, tag="task", omit_defaults=True):
    """A task to be: its message, without what is known only when it is enqueued.

    `into` is the parameter that takes the result of what went before. `delay` in seconds from when it is enqueued, `run_at` in
    epoch seconds.
    """

    message: Message
    into: str | None = None
    delay: float = 0.0
    run_at: float = 0.0
    claim: Claim | None = None
    limit: Limit | None = None


class Group(Struct, frozen=True, tag="group"):
    """Chains that run side by side. What follows them waits in `queue` under `id`."""

    members: tuple[tuple["Step", ...], ...]
    id: str = ""
    queue: str = ""


Step = Link | Group
Chain = tuple[Step, ...]


class Onward(Struct, frozen=True, omit_defaults=True):
    """What follows: the rest of the chain, and after that the group it is a member of."""

    steps: Chain = ()
    member: Member | None = None


class Origin(Struct, frozen=True):
    """What tasks owe to whatever has set them off: when (epoch ms, by a worker's clock), and the trace context."""

    created: int
    trace: dict[str, str] = {}


class Entry(Struct, frozen=True, omit_defaults=True):
    """What lies in an outbox: a chain to begin with this value. `key` tells it from every other, also after it has gone."""

    key: str
    origin: Origin
    steps: Chain = ()
    member: Member | None = None
    value: Raw = NO_RESULT


_encode = msgspec.json.Encoder().encode
_onward = msgspec.json.Decoder(Onward)
_entry = msgspec.json.Decoder(Entry)
_chains = msgspec.json.Decoder(tuple[Chain, ...])


def onward_of(steps: Chain, member: Member | None = None) -> Raw | UnsetType:
    """What an envelope carries of the rest; nothing where nothing follows."""
    return Raw(_encode(Onward(steps, member))) if steps or member else UNSET


def read_onward(raw: bytes) -> Onward:
    """Raises Invalid for what is none."""
    try:
        return _onward.decode(raw)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"what is to follow cannot be read: {error}") from error


def write_chains(chains: Sequence[Chain]) -> bytes:
    """As a child process tells them to its worker."""
    return _encode(chains)


def read_chains(raw: bytes) -> tuple[Chain, ...]:
    """Raises Invalid for what are none."""
    try:
        return _chains.decode(raw)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"what was sent cannot be read: {error}") from error


def write_entry(entry: Entry) -> bytes:
    """As it lies in the outbox."""
    return _encode(entry)


def read_entry(body: bytes) -> Entry:
    """Raises Invalid for what is none."""
    try:
        return _entry.decode(body)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"not an entry of an outbox: {error}") from error


def takes_value(steps: Chain, member: Member | None) -> bool:
    """Whether anything at the beginning wants the result of what went before."""
    if not steps:
        return member is not None
    if isinstance(steps[0], Link):
        return steps[0].into is not None
    return any(takes_value(chain, None) for chain in steps[0].members)


def kind_of(link: Link) -> Kind:
    """What decides its place."""
    return Kind(link.message.id, link.claim.digest if link.claim else "", link.limit.key if link.limit else "")


def root_of(task_id: str, created: int) -> str:
    """What the ids of all that follows a task begin with: the same for every delivery of it, another for every other task."""
    return digest(task_id, str(created))


def check_start(steps: Chain) -> Chain:
    """Raises Invalid where nothing would begin, or where what begins waits for a result."""
    if not any(True for _ in links_of([steps])):
        raise Invalid("a workflow without a task: there is nothing to enqueue")
    if takes_value(steps, None):
        raise Invalid("what begins a workflow has no result to take: prepare() it with all its arguments, instead of piped()")
    return steps


def number(steps: Chain, root: str, *, first: str | None = None) -> Chain:
    """The same chain with ids: `root` and a number; the first task's is `first`, if given.

    Raises Invalid for a group that is too large.
    """
    counter = iter(range(1, 1_000_000_000))

    def next_id() -> str:
        return f"{root}.{next(counter)}"

    def one(step: Step, following: Step | None, depth: int) -> Step:
        if isinstance(step, Link):
            return msgspec.structs.replace(step, message=msgspec.structs.replace(step.message, id=next_id()))
        if depth > MAX_DEPTH:
            raise Invalid(f"groups within groups: at most {MAX_DEPTH} deep")
        if len(step.members) > MAX_MEMBERS:
            count = len(step.members)
            raise Invalid(f"a group of {count}: at most {MAX_MEMBERS} are allowed, start further groups from its members")
        members = tuple(chain_of(chain, depth + 1) for chain in step.members)
        queue = following.message.queue if isinstance(following, Link) else queue_of(members)
        return Group(members, "", queue)

    def chain_of(chain: Chain, depth: int) -> Chain:
        numbered = [one(step, after, depth) for step, after in zip(chain, (*chain[1:], None), strict=True)]
        for at, step in enumerate(numbered):
            if isinstance(step, Group):
                after = numbered[at + 1] if at + 1 < len(numbered) else None
                join = after.message.id if isinstance(after, Link) else next_id()
                numbered[at] = msgspec.structs.replace(step, id=join)
        return tuple(numbered)

    numbered = chain_of(steps, 0)
    if first and numbered and isinstance(numbered[0], Link):
        head = numbered[0]
        numbered = (msgspec.structs.replace(head, message=msgspec.structs.replace(head.message, id=first)), *numbered[1:])
    return numbered


def queue_of(chains: Sequence[Chain]) -> str:
    """The queue of the first task that begins; empty where none does."""
    for link in links_of(chains):
        return link.message.queue
    return ""


def tasks_of(steps: Chain, *, joined: bool = False) -> Iterator[tuple[Kind, Message]]:
    """All tasks of a numbered chain, and the stand-ins of its joins; `joined` where it is a member of a group."""
    for at, step in enumerate(steps):
        if isinstance(step, Link):
            yield kind_of(step), step.message
            continue
        is_last = at == len(steps) - 1
        for member in step.members:
            yield from tasks_of(member, joined=joined or not is_last)
        if (joined or not is_last) and (is_last or isinstance(steps[at + 1], Group)):
            yield Kind(step.id), Message(step.id, STANDIN, Raw(b"{}"), step.queue, 0)


def queues_of(chains: Sequence[Chain]) -> set[str]:
    """All queues that have to do with them."""
    found: set[str] = set()
    for chain in chains:
        for step in chain:
            found |= {step.message.queue} if isinstance(step, Link) else {step.queue, *queues_of(step.members)}
    return found - {""}


def home_of(steps: Chain) -> str:
    """The queue where a numbered chain begins: its first task's, or where its first group is counted."""
    return next((step.queue if isinstance(step, Group) else step.message.queue for step in steps), "")


def links_of(chains: Sequence[Chain]) -> Iterator[Link]:
    """All tasks, in the order in which they are written."""
    for chain in chains:
        for step in chain:
            if isinstance(step, Link):
                yield step
            else:
                yield from links_of(step.members)
