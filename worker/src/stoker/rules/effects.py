"""What a success or a launch sets off: each effect is done by a script in one partition of a queue.

A chain begins directly, in the settlement's or launch's own script, where that is little and all of it lies in the same
partition; otherwise one entry goes into the outbox, and a worker relays it. Packed by `queue/workflows/effects.py`, done by
`queue/lua/_effects.lua`.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from stoker.rules.admission import Admission
from stoker.rules.message import Message
from stoker.rules.partitions import PartitionKey
from stoker.rules.settle import Failure
from stoker.rules.workflow import (
    HOLE,
    NO_RESULT,
    GroupStep,
    Member,
    OutboxEntry,
    Steps,
    TaskStep,
    dump_onward,
    placeholder,
    takes_result,
)

MAX_DIRECT = 100
"""Tasks that begin in the script that sets them off; more go through the outbox, a batch per script."""
CHAINS_PER_ENTRY = 500
"""Of the chains that a run has enqueued, in one entry of the outbox."""


class EnqueueTask(Struct, frozen=True):
    """Enqueue a task, as this member of a group if any."""

    partition: str
    admission: Admission
    member: Member | None = None


class PutInOutbox(Struct, frozen=True):
    """Add an entry to the partition's outbox."""

    partition: str
    entry: OutboxEntry


class OpenJoin(Struct, frozen=True):
    """Do `then` once `total` members have succeeded; if one never can, bury the `placeholder` instead.

    `member`: what this group's chain is itself a member of.
    """

    partition: str
    placeholder: Message
    total: int
    then: EnqueueTask | PutInOutbox
    member: Member | None


class CompleteMember(Struct, frozen=True):
    """Record at its join that a member has succeeded with this result."""

    member: Member
    value: Raw

    @property
    def partition(self) -> str:
        return self.member.partition


class BreakJoin(Struct, frozen=True):
    """Bury the join's placeholder with this failure: one of its members will never succeed."""

    partition: str
    join: str
    failure: Failure


class LeaveTombstone(Struct, frozen=True):
    """Record a task as cancelled before it is enqueued, so that a later enqueue of its id does nothing."""

    partition: str
    message: Message


Effect = EnqueueTask | PutInOutbox | OpenJoin | CompleteMember | BreakJoin | LeaveTombstone
Locate = Callable[[str, PartitionKey], str]
"""The partition of a queue that a task or join with this key belongs to."""


def begin(entry: OutboxEntry, locate: Locate) -> Iterator[Effect]:
    """Begin the entry's chain, joins before their members. The result of an empty chain is the value that it is given."""
    if not entry.steps:
        if entry.member:
            yield CompleteMember(entry.member, entry.value)
        return
    step, rest = entry.steps[0], entry.steps[1:]
    if isinstance(step, TaskStep):
        yield _enqueue(step, entry, locate)
    elif not step.members:
        yield from begin(replace(entry, steps=rest, value=Raw(b"[]")), locate)
    else:
        join = _open_join(step, entry, locate) if rest or entry.member else None
        if join:
            yield join
        for at, chain in enumerate(step.members):
            member = Member(join.partition, step.id, at) if join else None
            yield from begin(OutboxEntry(f"{entry.key}.{at}", entry.origin, chain, member, entry.value), locate)


def begin_or_defer(partition: str, entry: OutboxEntry, locate: Locate | None) -> list[Effect]:
    """Begin the entry's chain directly where all of it lies in this partition, else put the entry into its outbox.

    Without `locate` it is unknown where tasks belong: the worker that relays the entry finds out.
    """
    if not entry.steps and not entry.member:
        return []
    if locate and starting_tasks(entry.steps) <= MAX_DIRECT:
        effects = list(begin(entry, locate))
        if _within(partition, effects):
            return effects
    return [PutInOutbox(partition, entry)]


def after_success(partition: str, onward: OutboxEntry, children: Sequence[Steps], locate: Locate | None) -> list[Effect]:
    """What follows a successful run in this partition: the rest of its chain, its links, and the chains that it has enqueued."""
    effects = begin_or_defer(partition, onward, locate)
    return effects + _begin_children(partition, onward, children, locate) if children else effects


def starting_tasks(steps: Steps) -> int:
    """How many tasks the first of these steps begins with, roughly: each member of a group counts as one more."""
    if not steps:
        return 0
    step = steps[0]
    return 1 if isinstance(step, TaskStep) else sum(1 + starting_tasks(chain) for chain in step.members)


def _begin_children(partition: str, onward: OutboxEntry, chains: Sequence[Steps], locate: Locate | None) -> list[Effect]:
    key, origin, value = f"{onward.key}.c", onward.origin, onward.value
    direct: list[Effect] = []
    deferred: list[Steps] = []
    for number, chain in enumerate(chains):
        effects: list[Effect] = []
        if locate and len(direct) + starting_tasks(chain) <= MAX_DIRECT:
            effects = list(begin(OutboxEntry(f"{key}.{number}", origin, chain, None, value), locate))
        if effects and _within(partition, effects):
            direct += effects
        else:
            deferred.append(chain)
    for at in range(0, len(deferred), CHAINS_PER_ENTRY):
        group = GroupStep(tuple(deferred[at : at + CHAINS_PER_ENTRY]))
        direct.append(PutInOutbox(partition, OutboxEntry(f"{key}.s{at}", origin, (group,), None, value)))
    return direct


def _within(partition: str, effects: Sequence[Effect]) -> bool:
    return all(effect.partition == partition for effect in effects)


def _enqueue(step: TaskStep, entry: OutboxEntry, locate: Locate) -> EnqueueTask:
    """Enqueue the first step of the entry's chain."""
    message = replace(
        step.message,
        payload=_with_argument(step.message.payload, step.into, entry.value),
        created=entry.origin.created,
        trace=entry.origin.trace,
        onward=dump_onward(entry.steps[1:], entry.member, step.message.onward),
    )
    admission = Admission(message, step.delay, step.run_at, step.claim, step.limit)
    return EnqueueTask(locate(message.queue, admission.partition_key), admission, entry.member)


def _open_join(group: GroupStep, entry: OutboxEntry, locate: Locate) -> OpenJoin:
    """Open the join of the first step of the entry's chain."""
    rest, total = entry.steps[1:], len(group.members)
    if rest and isinstance(following := rest[0], TaskStep):
        then = _enqueue(following, replace(entry, steps=rest, value=HOLE), locate)
        stands_in = replace(then.admission.message, payload=following.message.payload)
        return OpenJoin(then.partition, stands_in, total, then, entry.member)
    value = HOLE if takes_result(rest, entry.member) else NO_RESULT
    deferred = OutboxEntry(f"{entry.key}.join", entry.origin, rest, entry.member, value)
    partition = locate(group.queue, PartitionKey(group.id))
    stands_in = placeholder(group, entry.origin.created, dump_onward(rest, entry.member))
    return OpenJoin(partition, stands_in, total, PutInOutbox(partition, deferred), entry.member)


def _with_argument(payload: bytes, name: str | None, value: bytes) -> Raw:
    """The payload with this argument added. Bytes are joined, not parsed: the value may be a HOLE."""
    if name is None:
        return Raw(payload)
    others = bytes(payload).strip()[1:]
    comma = b"" if others.lstrip() == b"}" else b","
    return Raw(b"{" + msgspec.json.encode(name) + b":" + bytes(value) + comma + others)
