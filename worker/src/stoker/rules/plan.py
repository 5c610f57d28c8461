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
from stoker.rules.unique import Claim

MAX_MEMBERS = 10_000
MAX_PLAN_BYTES = 8 * 1024 * 1024
"""Of one workflow, with all payloads, as JSON."""
MAX_DEPTH = 20
"""Groups within groups."""
AT_ONCE = 100
"""So many tasks begin with the step before them; what is more goes through the outbox, in steps of its own."""
SENT_AT_ONCE = 500
"""So many chains go through the outbox in one entry."""
NO_RESULT = Raw(b"null")
HOLE = Raw(b"\x1e")
"""Stands where a join will put its members' results. JSON text never holds this byte as it is."""
STANDIN = "(group)"
"""The task that a dead letter names where a group was to be followed by no single task."""


class Member(Struct, frozen=True, array_like=True):
    """A place in a group: member number `at` of the join with this id, which is counted in that queue."""

    queue: str
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


class Start(Struct, frozen=True):
    """Item: a task is enqueued."""

    message: Message
    delay: float
    run_at: float
    claim: Claim | None
    limit: Limit | None
    member: Member | None

    @property
    def queue(self) -> str:
        return self.message.queue


class Send(Struct, frozen=True):
    """Item: an entry goes into the queue's outbox."""

    queue: str
    entry: Entry


class Join(Struct, frozen=True):
    """Item: `item` shall follow when `total` members have arrived; if one never can, `standin` is buried in its place."""

    standin: Message
    total: int
    item: Start | Send
    member: Member | None

    @property
    def queue(self) -> str:
        return self.standin.queue


class Arrive(Struct, frozen=True):
    """Item: a member has succeeded with this result."""

    member: Member
    value: Raw

    @property
    def queue(self) -> str:
        return self.member.queue


Item = Start | Send | Join | Arrive

_encode = msgspec.json.Encoder().encode
_onward = msgspec.json.Decoder(Onward)
_entry = msgspec.json.Decoder(Entry)


def onward_of(steps: Chain, member: Member | None = None) -> Raw | UnsetType:
    """What an envelope carries of the rest; nothing where nothing follows."""
    return Raw(_encode(Onward(steps, member))) if steps or member else UNSET


def read_onward(raw: bytes) -> Onward:
    """Raises Invalid for what is none."""
    try:
        return _onward.decode(raw)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"what is to follow cannot be read: {error}") from error


def write_entry(entry: Entry) -> bytes:
    """As it lies in the outbox."""
    return _encode(entry)


def read_entry(body: bytes) -> Entry:
    """Raises Invalid for what is none."""
    try:
        return _entry.decode(body)
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise Invalid(f"not an entry of an outbox: {error}") from error


def begin(steps: Chain, member: Member | None, value: Raw, origin: Origin, key: str) -> Iterator[Item]:
    """The items that begin a chain with this value, joins before their members. An empty chain's result is its value."""
    if not steps:
        if member:
            yield Arrive(member, value)
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Link):
        yield _start(step, rest, member, value, origin)
    elif not step.members:
        yield from begin(rest, member, Raw(b"[]"), origin, key)
    else:
        joined = bool(rest or member)
        if joined:
            yield _join(step, rest, member, origin, key)
        for at, chain in enumerate(step.members):
            yield from begin(chain, Member(step.queue, step.id, at) if joined else None, value, origin, f"{key}.{at}")


def follow(queue: str, key: str, onward: Onward, value: Raw, origin: Origin) -> list[Item]:
    """The items for the queue of a task that has succeeded: all at once where it is little, else by the outbox."""
    if size_of(onward.steps[:1]) <= AT_ONCE:
        items = list(begin(onward.steps, onward.member, value, origin, key))
        if all(item.queue == queue for item in items):
            return items
    return [Send(queue, Entry(key, origin, onward.steps, onward.member, value))]


def fan_out(queue: str, key: str, chains: Sequence[Chain], origin: Origin) -> list[Item]:
    """The items for the queue of a task that has sent these while it ran, and has succeeded."""
    direct: list[Item] = []
    others: list[Chain] = []
    for number, chain in enumerate(chains):
        items: list[Item] = []
        if len(direct) + size_of(chain[:1]) <= AT_ONCE:
            items = list(begin(chain, None, NO_RESULT, origin, f"{key}.{number}"))
        if items and all(item.queue == queue for item in items):
            direct += items
        else:
            others.append(chain)
    for at in range(0, len(others), SENT_AT_ONCE):
        group = Group(tuple(others[at : at + SENT_AT_ONCE]))
        direct.append(Send(queue, Entry(f"{key}.s{at}", origin, (group,))))
    return direct


def _start(link: Link, rest: Chain, member: Member | None, value: Raw, origin: Origin) -> Start:
    message = msgspec.structs.replace(
        link.message,
        payload=with_value(link.message.payload, link.into, value),
        created=origin.created,
        trace=origin.trace,
        onward=onward_of(rest, member),
    )
    return Start(message, link.delay, link.run_at, link.claim, link.limit, member)


def _join(group: Group, rest: Chain, member: Member | None, origin: Origin, key: str) -> Join:
    following = rest[0] if rest else None
    item: Start | Send
    if isinstance(following, Link):
        item = _start(following, rest[1:], member, HOLE, origin)
        standin = msgspec.structs.replace(item.message, payload=following.message.payload)
    else:
        value = HOLE if takes_value(rest, member) else NO_RESULT
        item = Send(group.queue, Entry(f"{key}.join", origin, rest, member, value))
        standin = Message(group.id, STANDIN, Raw(b"{}"), group.queue, origin.created, onward=onward_of(rest, member))
    return Join(standin, len(group.members), item, member)


def takes_value(steps: Chain, member: Member | None) -> bool:
    """Whether anything at the beginning wants the result of what went before."""
    if not steps:
        return member is not None
    if isinstance(steps[0], Link):
        return steps[0].into is not None
    return any(takes_value(chain, None) for chain in steps[0].members)


def with_value(payload: bytes, into: str | None, value: bytes) -> Raw:
    """A payload with one argument more. The bytes are put together, not read: the value may be a HOLE."""
    if into is None:
        return Raw(payload)
    others = bytes(payload).strip()[1:]
    comma = b"" if others.lstrip() == b"}" else b","
    return Raw(b"{" + _encode(into) + b":" + bytes(value) + comma + others)


def size_of(steps: Sequence[Step]) -> int:
    """How many tasks begin with the first of these steps, roughly: every member counts once."""
    if not steps:
        return 0
    step = steps[0]
    return 1 if isinstance(step, Link) else sum(1 + size_of(chain) for chain in step.members)


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


def tasks_of(steps: Chain, *, joined: bool = False) -> Iterator[Message]:
    """The messages of all tasks of a numbered chain, and the stand-ins of its joins; `joined` where it is a member of a group."""
    for at, step in enumerate(steps):
        if isinstance(step, Link):
            yield step.message
            continue
        is_last = at == len(steps) - 1
        for member in step.members:
            yield from tasks_of(member, joined=joined or not is_last)
        if (joined or not is_last) and (is_last or isinstance(steps[at + 1], Group)):
            yield Message(step.id, STANDIN, Raw(b"{}"), step.queue, 0)


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
