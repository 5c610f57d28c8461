"""What the scripts make of each item, said a second time: children, joins and their members. Part of the model."""

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from stoker.queue.keys import Keys
from stoker.queue.workflows.effects import US, pack
from stoker.rules.admission import Admission
from stoker.rules.effects import CompleteMember, Effect, EnqueueTask, OpenJoin, PutInOutbox
from stoker.rules.message import MAX_PAYLOAD_BYTES, Message, encode
from stoker.rules.workflow import Member
from tests.engine.line import QUEUE
from tests.proof.model_time import Now

if TYPE_CHECKING:
    from tests.proof.model import Model, Wish

HOLE = b"\x1e"


class Came(NamedTuple):
    """A task that is there now: waiting, or `buried` in the place of one that can never come."""

    id: str
    priority: int
    due: int
    buried: bool = False


@dataclass(slots=True)
class Waiting:
    """A join. `values` are the results of the members that have arrived, by number."""

    placeholder: Message
    total: int
    item: EnqueueTask | PutInOutbox
    member: Member | None
    values: dict[int, bytes] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        """Whether what follows takes the results."""
        return HOLE in pack(self.item)

    @property
    def results(self) -> bytes:
        return b"[" + b",".join(value for _, value in sorted(self.values.items())) + b"]"

    @property
    def row(self) -> str:
        """Members missing, bytes of results, the most of them, members."""
        most = MAX_PAYLOAD_BYTES if self.wanted else -1
        return f"{self.total - len(self.values)} {sum(len(value) + 1 for value in self.values.values())} {most} {self.total}"

    def copy(self) -> "Waiting":
        return dataclasses.replace(self, values=dict(self.values))


def perform(model: "Model", item: Effect, now: Now) -> list[Came]:
    match item:
        case EnqueueTask(_, Admission(message, delay, run_at, claim), member):
            held = (claim.until[0], claim.digest, round(claim.ttl * 1000)) if claim else None
            wish = model.wish(message.id, encode(message), message.priority, round(delay * 1000), round(run_at * 1000), held)
            return _start(model, wish, member, now)
        case PutInOutbox(_, entry):
            model.outbox.append(entry.key)
        case OpenJoin(_, placeholder, total, following, member):
            if placeholder.id not in model.items and placeholder.id not in model.joins:
                model.joins[placeholder.id] = Waiting(placeholder, total, following, member)
        case CompleteMember(member, value):
            return _arrive(model, member, bytes(value), now)
    return []


def _start(model: "Model", wish: "Wish", member: Member | None, now: Now) -> list[Came]:
    [answer] = model.enqueue([wish], now)
    if answer not in ("ready", "scheduled"):
        return []
    task = model.items[wish.id]
    task.member = (member.join, member.at) if member else None
    return [Came(wish.id, wish.priority, int(task.score) if answer == "scheduled" else 0)]


def _arrive(model: "Model", member: Member, value: bytes, now: Now) -> list[Came]:
    join = model.joins.get(member.join)
    if join is None or member.at in join.values:
        return []
    join.values[member.at] = value
    if len(join.values) < join.total:
        return []
    del model.joins[member.join]
    if isinstance(join.item, PutInOutbox):
        return perform(model, join.item, now)
    admission, place = join.item.admission, join.item.member
    message = admission.message
    envelope = encode(message).replace(HOLE, join.results)
    wish = model.wish(message.id, envelope, message.priority, round(admission.delay * 1000), round(admission.run_at * 1000), None)
    return _start(model, wish, place, now)


def part(model: "Model", join_id: str, now: Now) -> list[Came]:
    """A member is gone for good: the placeholder is buried in the place of what was to follow."""
    join = model.joins.pop(join_id, None)
    if join is None or join_id in model.items:
        return []
    model.bury_placeholder(join.placeholder, (join.member.join, join.member.at) if join.member else None, now)
    return [Came(join_id, join.placeholder.priority, 0, buried=True)]


def expected(model: "Model", keys: Keys) -> dict[str, dict[str, object]]:
    """What the keys of joins hold."""
    us = US.decode()
    arrivals = {
        f"{join_id}{us}{at}": value.decode() if join.wanted else ""
        for join_id, join in model.joins.items()
        for at, value in join.values.items()
    }
    members = {item.id: f"{QUEUE} {item.member[0]} {item.member[1]}" for item in model.items.values() if item.member}
    return {
        keys.joins: dict.fromkeys(model.joins, "there"),
        keys.waiting: {join_id: join.row for join_id, join in model.joins.items()},
        keys.arrivals: dict(arrivals),
        keys.members: dict(members),
    }
