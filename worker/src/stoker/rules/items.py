"""What follows when a task has succeeded: the items that make a plan come true, each of them for a script in one place."""

from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from stoker.rules.concurrency import Limit
from stoker.rules.message import Message
from stoker.rules.partitions import Kind
from stoker.rules.plan import (
    HOLE,
    NO_RESULT,
    STANDIN,
    Chain,
    Entry,
    Group,
    Link,
    Member,
    Onward,
    Origin,
    Step,
    kind_of,
    onward_of,
    takes_value,
)
from stoker.rules.unique import Claim

AT_ONCE = 100
"""So many tasks begin with the step before them; what is more goes through the outbox, in steps of its own."""
SENT_AT_ONCE = 500
"""So many chains go through the outbox in one entry."""


class Start(Struct, frozen=True):
    """Item: a task is enqueued."""

    place: str
    message: Message
    delay: float
    run_at: float
    claim: Claim | None
    limit: Limit | None
    member: Member | None


class Send(Struct, frozen=True):
    """Item: an entry goes into the place's outbox."""

    place: str
    entry: Entry


class Join(Struct, frozen=True):
    """Item: `item` shall follow when `total` members have arrived; if one never can, `standin` is buried in its place."""

    place: str
    standin: Message
    total: int
    item: Start | Send
    member: Member | None


class Arrive(Struct, frozen=True):
    """Item: a member has succeeded with this result."""

    member: Member
    value: Raw

    @property
    def place(self) -> str:
        return self.member.place


Item = Start | Send | Join | Arrive
"""What a script does in one place of a queue (rules/partitions.py)."""
Where = Callable[[str, Kind], str]
"""The place of a task of this kind in that queue."""


def begin(steps: Chain, member: Member | None, value: Raw, origin: Origin, key: str, where: Where) -> Iterator[Item]:
    """The items that begin a chain with this value, joins before their members. An empty chain's result is its value."""
    if not steps:
        if member:
            yield Arrive(member, value)
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, Link):
        yield _start(step, rest, member, value, origin, where)
    elif not step.members:
        yield from begin(rest, member, Raw(b"[]"), origin, key, where)
    else:
        join = _join(step, rest, member, origin, key, where) if rest or member else None
        if join:
            yield join
        for at, chain in enumerate(step.members):
            its = Member(join.place, step.id, at) if join else None
            yield from begin(chain, its, value, origin, f"{key}.{at}", where)


def follow(place: str, key: str, onward: Onward, value: Raw, origin: Origin, where: Where | None) -> list[Item]:
    """The items for the place of a task that has succeeded: all at once where it is little, else by the outbox.

    So too where nobody knows `where` other tasks belong.
    """
    if where and size_of(onward.steps[:1]) <= AT_ONCE:
        items = list(begin(onward.steps, onward.member, value, origin, key, where))
        if all(item.place == place for item in items):
            return items
    return [Send(place, Entry(key, origin, onward.steps, onward.member, value))]


def fan_out(place: str, key: str, chains: Sequence[Chain], origin: Origin, where: Where | None) -> list[Item]:
    """The items for the place of a task that has sent these while it ran, and has succeeded."""
    direct: list[Item] = []
    others: list[Chain] = []
    for number, chain in enumerate(chains):
        items: list[Item] = []
        if where and len(direct) + size_of(chain[:1]) <= AT_ONCE:
            items = list(begin(chain, None, NO_RESULT, origin, f"{key}.{number}", where))
        if items and all(item.place == place for item in items):
            direct += items
        else:
            others.append(chain)
    for at in range(0, len(others), SENT_AT_ONCE):
        group = Group(tuple(others[at : at + SENT_AT_ONCE]))
        direct.append(Send(place, Entry(f"{key}.s{at}", origin, (group,))))
    return direct


def _start(link: Link, rest: Chain, member: Member | None, value: Raw, origin: Origin, where: Where) -> Start:
    message = msgspec.structs.replace(
        link.message,
        payload=with_value(link.message.payload, link.into, value),
        created=origin.created,
        trace=origin.trace,
        onward=onward_of(rest, member),
    )
    return Start(where(message.queue, kind_of(link)), message, link.delay, link.run_at, link.claim, link.limit, member)


def _join(group: Group, rest: Chain, member: Member | None, origin: Origin, key: str, where: Where) -> Join:
    following = rest[0] if rest else None
    item: Start | Send
    if isinstance(following, Link):
        item = _start(following, rest[1:], member, HOLE, origin, where)
        standin = msgspec.structs.replace(item.message, payload=following.message.payload)
    else:
        value = HOLE if takes_value(rest, member) else NO_RESULT
        item = Send(where(group.queue, Kind(group.id)), Entry(f"{key}.join", origin, rest, member, value))
        standin = Message(group.id, STANDIN, Raw(b"{}"), group.queue, origin.created, onward=onward_of(rest, member))
    return Join(item.place, standin, len(group.members), item, member)


def size_of(steps: Sequence[Step]) -> int:
    """How many tasks begin with the first of these steps, roughly: every member counts once."""
    if not steps:
        return 0
    step = steps[0]
    return 1 if isinstance(step, Link) else sum(1 + size_of(chain) for chain in step.members)


def with_value(payload: bytes, into: str | None, value: bytes) -> Raw:
    """A payload with one argument more. The bytes are put together, not read: the value may be a HOLE."""
    if into is None:
        return Raw(payload)
    others = bytes(payload).strip()[1:]
    comma = b"" if others.lstrip() == b"}" else b","
    return Raw(b"{" + msgspec.json.encode(into) + b":" + bytes(value) + comma + others)
