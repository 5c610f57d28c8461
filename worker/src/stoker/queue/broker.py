"""The transitions of a queue: one method each, one script each. Clients and workers change Redis through it alone."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from stoker.errors import Conflict, Invalid, NotDurable
from stoker.manifest import Lease, RateLimit, Retention
from stoker.queue import scripts
from stoker.queue.keys import Keys, catalogue
from stoker.queue.partitions import Partitions
from stoker.queue.progress import Note, tell
from stoker.queue.reaping import REAPED_AT_ONCE, Reaped, lost_too_often
from stoker.queue.records import Delivery, Pulse, Receipt, Turn
from stoker.queue.scripts import Argument, ScriptCall, chunks
from stoker.queue.settlements import SETTLED_AT_ONCE, Settlement, fills_outbox, portions, settle_call
from stoker.redis.client import RedisClient, ask, ask_alone
from stoker.redis.durability import question, shortfall
from stoker.redis.failures import mapped
from stoker.rules.concurrency import Limit
from stoker.rules.durability import Durability
from stoker.rules.message import Message, decode, encode, same_task
from stoker.rules.partitions import Kind
from stoker.rules.states import TaskState
from stoker.rules.unique import Claim

T = TypeVar("T")
ENQUEUED_AT_ONCE = 200
FETCHED_AT_ONCE = 200
PROMOTED_AT_ONCE = 100
CLAIM_FIELDS, LIMIT_FIELDS = 4, 3
"""So many words enqueue.lua is told of a claim, and of a limit."""


_json = msgspec.json.Encoder().encode
_TAKEN = {b"ready": TaskState.READY, b"scheduled": TaskState.SCHEDULED}


class Entry(Struct, frozen=True, gc=False):
    """A message to enqueue, and when: after `delay` seconds of Redis' clock, or at `run_at` (epoch seconds).

    With a `claim` only where no other task holds the same one. With a `limit` it runs only beside so many of its key.
    """

    message: Message
    delay: float = 0.0
    run_at: float = 0.0
    claim: Claim | None = None
    limit: Limit | None = None

    @property
    def kind(self) -> Kind:
        """What decides in which partition it lies."""
        return Kind(self.message.id, self.claim.digest if self.claim else "", self.limit.key if self.limit else "")


class Broker:
    """The transitions of one queue. All methods raise RedisUnavailable or RedisRefused."""

    def __init__(
        self,
        redis: RedisClient,
        keys: Keys,
        lease: Lease = Lease(),
        retention: Retention = Retention(),
        rate_limit: RateLimit | None = None,
    ) -> None:
        self.keys = keys
        self.partitions = Partitions(redis, keys.namespace)
        self._redis = redis
        self._lease = lease
        self._retention = retention
        self._pace = (rate_limit.per_second, rate_limit.burst) if rate_limit else (0, 0)
        self._nothing_ended = settle_call(keys, [], 0)

    async def register(self) -> None:
        """Make this place of a queue known to those who list queues."""
        await ask(self._redis, "SADD", catalogue(self.keys.namespace), self.keys.queue)

    async def enqueue(self, entries: Sequence[Entry], durability: Durability = Durability.MEMORY) -> list[Receipt]:
        """Add tasks in order. Safe to repeat: an id that is there already is left alone.

        Raises Conflict where an id is taken by another task; the other entries have been added. Raises NotDurable where
        all have been added, but Redis does not confirm the durability in time.
        """
        return taken(await self.offer(entries, durability))

    async def offer(self, entries: Sequence[Entry], durability: Durability = Durability.MEMORY) -> list[Receipt | Conflict]:
        """The same, for those who want to know of every entry: a Conflict is returned in its place, not raised."""
        replies = await self._offered(entries, durability) if entries else []
        return [_receipt(entry.message, reply) for entry, reply in zip(entries, replies, strict=True)]

    async def turn(self, settlements: Sequence[Settlement], room: int, worker: str, *, holds_suspect: bool = False) -> Turn:
        """Settle what has ended and take up to `room` new tasks, in one round trip.

        `holds_suspect`: the worker keeps a task that was lost before, beyond these settlements, and gets no other.
        """
        nonce = _nonce()
        parts = list(portions(settlements))
        calls = [settle_call(self.keys, part, self._retention.succeeded.age) for part in parts]
        relay = fills_outbox(settlements)
        if room > 0:
            calls.append(self._fetch_call(worker, nonce, min(room, FETCHED_AT_ONCE), holds_suspect=holds_suspect))
        if not calls:
            return Turn([], [], False, None)
        replies = await scripts.run(self._redis, *calls)
        accepted = [flag for reply in replies[: len(parts)] for flag in reply]
        refused = [settlement for settlement, flag in zip(settlements, accepted, strict=True) if not flag]
        if room <= 0:
            return Turn(refused, [], False, None, relay)
        return _fetched(replies[-1], worker, nonce, refused, relay=relay)

    async def wait_and_take(self, room: int, worker: str, timeout: float, *, holds_suspect: bool = False) -> Turn | None:
        """`wait_for_work`, and in the same round trip take up to `room` tasks, as `turn` does.

        None where only `turn` can take them: in a cluster, whose client decides by itself where a command goes; where Redis
        does not know the script yet; after `quiet`; and after a silence that was longer than the lease.
        """
        if self._redis.follows_slots:
            await self.wait_for_work(timeout)
            return None
        nonce = _nonce()
        fetch = self._fetch_call(worker, nonce, room, holds_suspect=holds_suspect, waited=True)
        reply = await scripts.run_behind(self._redis, ("BLPOP", self.keys.wake, timeout), fetch, timeout)
        return None if reply is None else _fetched(reply, worker, nonce, [])

    async def quiet(self, worker: str) -> None:
        """This worker takes no more: a fetch that it has sent behind a wait for work brings nothing."""
        await scripts.run(self._redis, ScriptCall("rest", self.keys, [worker]))

    async def wait_for_work(self, timeout: float) -> bool:
        """Block until something may be ready. Returns False after `timeout` seconds."""
        return await ask_alone(self._redis, self.keys.wake, "BLPOP", self.keys.wake, timeout, blocks=timeout) is not None

    def heartbeat_call(self, worker: str, info: bytes, held: Mapping[str, str]) -> ScriptCall:
        """The call that renews `held` (fence -> id). Run by the heartbeat's own thread; see `pulse`."""
        pairs = [part for pair in held.items() for part in pair]
        return ScriptCall("heartbeat", self.keys, [worker, info, _ms(self._lease.duration), *pairs])

    async def tell(self, notes: Sequence[Note]) -> list[bool]:
        """What running tasks say of themselves. False where a delivery has lost its lease."""
        return await tell(self._redis, self.keys, notes)

    async def pass_on(self) -> None:
        """Wake another worker if anything is ready: this one may have been woken for it and will not come."""
        await scripts.run(self._redis, ScriptCall("pass_on", self.keys, []))

    async def forget_worker(self, worker: str) -> None:
        """Remove a worker that has stopped, without waiting for its lease to end."""
        await scripts.run(self._redis, ScriptCall("leave", self.keys, [worker]))

    async def promote(self, limit: int = PROMOTED_AT_ONCE) -> tuple[int, float | None]:
        """Move due tasks to the ready line. Returns how many, and seconds until the next is due."""
        [(moved, due, now)] = await scripts.run(self._redis, ScriptCall("promote", self.keys, [limit]))
        return moved, max(0, due - now) / 1000 if due >= 0 else None

    async def reap(self) -> Reaped:
        """Give back what workers held that have been silent for longer than their lease."""
        arguments: list[Argument] = [REAPED_AT_ONCE, self._lease.max_lost, lost_too_often(self._lease.max_lost)]
        [reply] = await scripts.run(self._redis, ScriptCall("reap", self.keys, arguments))
        return Reaped(*reply)

    async def sweep(self) -> tuple[int, int]:
        """Forget ended tasks past their retention. Returns how many finished (or cancelled) and dead ones went."""
        keep = self._retention
        bounds = [_ms(keep.succeeded.age), keep.succeeded.count, _ms(keep.dead.age), keep.dead.count]
        call = ScriptCall("sweep", self.keys, [SETTLED_AT_ONCE, *bounds])
        [(finished, dead)] = await scripts.run(self._redis, call)
        return finished, dead

    async def _offered(self, entries: Sequence[Entry], durability: Durability) -> list[Any]:
        calls = map(self._enqueue_call, chunks(entries, ENQUEUED_AT_ONCE))
        if durability is not Durability.MEMORY:
            parts = await self._durably(list(calls), [entry.message.id for entry in entries], durability)
        elif len(entries) > ENQUEUED_AT_ONCE:
            parts = await scripts.run_as_made(self._redis, calls)
        else:
            parts = await scripts.run(self._redis, *calls)
        return [reply for part in parts for reply in part]

    def _enqueue_call(self, entries: Sequence[Entry]) -> ScriptCall:
        return ScriptCall("enqueue", self.keys, _entry_fields(entries))

    async def _durably(self, calls: Sequence[ScriptCall], ids: Sequence[str], durability: Durability) -> list[Any]:
        parts, answer = await scripts.run_and_ask(self._redis, calls, question(durability))
        if missed := shortfall(durability, answer):
            raise NotDurable(f"enqueued, but not {durability}: {missed}", ids)
        if isinstance(answer, Exception):
            raise mapped(answer) from answer
        return parts

    def _fetch_call(self, worker: str, nonce: str, room: int, *, holds_suspect: bool, waited: bool = False) -> ScriptCall:
        arguments: list[Argument] = [worker, nonce, room, _ms(self._lease.duration), int(holds_suspect), *self._pace, int(waited)]
        return ScriptCall("fetch", self.keys, arguments, before=self._nothing_ended)


def pulse(reply: Sequence[Any]) -> Pulse:
    """Read the answer to a heartbeat."""
    paused, lost, cancelled = reply
    return Pulse(bool(paused), [fence.decode() for fence in lost], [fence.decode() for fence in cancelled])


def _entry_fields(entries: Sequence[Entry]) -> list[Argument]:
    claims: list[Argument] = []
    limits: list[Argument] = []
    tasks: list[Argument] = []
    for entry in entries:
        message = entry.message
        tasks += (message.id, encode(message), message.priority, _ms(entry.delay), _ms(entry.run_at))
        if claim := entry.claim:
            claims += (message.id, claim.until[0], claim.digest, _ms(claim.ttl))
        if limit := entry.limit:
            limits += (message.id, limit.most, limit.key)
    return [len(claims) // CLAIM_FIELDS, *claims, len(limits) // LIMIT_FIELDS, *limits, *tasks]


def taken(outcomes: Sequence[Receipt | Conflict]) -> list[Receipt]:
    """The receipts. Raises the first Conflict among them."""
    receipts: list[Receipt] = []
    for outcome in outcomes:
        if isinstance(outcome, Conflict):
            raise outcome
        receipts.append(outcome)
    return receipts


def _receipt(message: Message, reply: bytes | list[bytes]) -> Receipt | Conflict:
    if isinstance(reply, list):
        return Receipt(reply[0].decode(), None, duplicate=True)
    if state := _TAKEN.get(reply):
        return Receipt(message.id, state)
    if not same_as(message, reply):
        return Conflict(f"task id {message.id!r} is taken by another task: choose another id, or send the same task and payload")
    return Receipt(message.id, None, duplicate=True)


def same_as(message: Message, envelope: bytes) -> bool:
    """Whether this envelope asks for the same work; one that nobody can read does not."""
    try:
        return same_task(message, decode(envelope))
    except Invalid:
        return False


def _fetched(reply: Sequence[Any], worker: str, nonce: str, refused: list[Settlement], *, relay: bool = False) -> Turn:
    now, back, paused, first, *fields = reply
    deliveries = list(_deliveries(fields, now, first, worker, nonce))
    return Turn(refused, deliveries, bool(paused), max(0, back - now) / 1000 if back >= 0 else None, relay)


def _deliveries(fields: Sequence[Any], now: int, first: int, worker: str, nonce: str) -> Iterator[Delivery]:
    for number, at in enumerate(range(0, len(fields), 5), first):
        task_id, envelope, failures, losses, waited = fields[at : at + 5]
        if envelope:  # an id without one was counted by the script and cannot run
            fence = f"{number:016d}:{worker}:{nonce}"
            yield Delivery(task_id.decode(), fence, envelope, int(failures), int(losses), waited / 1000, now)


def _nonce() -> str:
    """What makes fences differ that a failover has counted twice."""
    return os.urandom(4).hex()


def _ms(seconds: float) -> int:
    return round(seconds * 1000) if seconds else 0
