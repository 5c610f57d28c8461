"""The transitions of one partition: one method and one script each. Reads and repairs are in `reads/`, schedules in `schedules`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec

from stoker.errors import Conflict, Invalid, NotDurable
from stoker.manifest.policies import Lease, RateLimit, Retention
from stoker.queue import scripts
from stoker.queue.keys import Keys, catalogue
from stoker.queue.partitions import Partitions
from stoker.queue.progress import Note, write_notes
from stoker.queue.reaping import REAPED_AT_ONCE, Reaped, lost_too_often
from stoker.queue.records import Answer, Delivery, DueChores, Holds, Pulse, Receipt, Turn
from stoker.queue.scripts import Argument, ScriptCall, chunks
from stoker.queue.settlements import SETTLED_AT_ONCE, Settlement, fills_outbox, portions, settle_call
from stoker.redis.client import RedisClient, ask, ask_alone
from stoker.redis.durability import question, shortfall
from stoker.redis.failures import mapped
from stoker.rules.admission import Admission, marks
from stoker.rules.announcement import Announcement, Description
from stoker.rules.durability import Durability
from stoker.rules.losses import on_last_life
from stoker.rules.message import Message, decode, encode, same_task
from stoker.rules.states import TaskState
from stoker.rules.units import to_ms

ENQUEUED_AT_ONCE = 200
FETCHED_AT_ONCE = 200
PROMOTED_AT_ONCE = 100
RELEASED_AT_ONCE = 200

_ADMITTED = {b"ready": TaskState.READY, b"scheduled": TaskState.SCHEDULED}


class Broker:
    """The transitions of one partition. All methods raise RedisUnavailable or RedisRefused."""

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
        """Add this partition to the catalogue of its namespace."""
        await ask(self._redis, "SADD", catalogue(self.keys.namespace), self.keys.queue)

    async def enqueue(self, admissions: Sequence[Admission], durability: Durability = Durability.MEMORY) -> list[Answer]:
        """Add tasks in order. Safe to repeat: an id that exists is left alone.

        A Conflict is returned in the place of a task whose id another task has. Raises NotDurable where all have been added,
        but Redis does not confirm the durability in time.
        """
        if not admissions:
            return []
        if durability is not Durability.MEMORY:
            replies = await self._enqueue_durably(admissions, durability)
        elif len(admissions) > ENQUEUED_AT_ONCE:
            calls = map(self._enqueue_call, chunks(admissions, ENQUEUED_AT_ONCE))
            replies = list(chain.from_iterable(await scripts.run_as_made(self._redis, calls)))
        else:
            [replies] = await scripts.run(self._redis, self._enqueue_call(admissions))
        return [_answer(admission.message, reply) for admission, reply in zip(admissions, replies, strict=True)]

    async def turn(self, settlements: Sequence[Settlement], room: int, worker: str, holds: Holds = Holds.NOTHING) -> Turn:
        """Settle ended deliveries and fetch up to `room` tasks, in one round trip. `holds`: what is held beyond these."""
        nonce = _nonce()
        parts = list(portions(settlements))
        calls = [settle_call(self.keys, part, self._retention.succeeded.age) for part in parts]
        relay = fills_outbox(settlements)
        if room > 0:
            calls.append(self._fetch_call(worker, nonce, min(room, FETCHED_AT_ONCE), holds))
        if not calls:
            return Turn([], [], False, None)
        replies = await scripts.run(self._redis, *calls)
        accepted = [flag for reply in replies[: len(parts)] for flag in reply]
        refused = [settlement for settlement, flag in zip(settlements, accepted, strict=True) if not flag]
        if room <= 0:
            return Turn(refused, [], False, None, relay)
        return self._fetched(replies[-1], worker, nonce, refused, relay=relay)

    async def wait_and_take(self, room: int, worker: str, timeout: float, holds: Holds = Holds.PERHAPS) -> Turn | None:
        """Wait for work and fetch up to `room` tasks in the same round trip.

        None when `turn` has to fetch them: in a cluster, whose client cannot send both in one round trip; when Redis has not cached
        the script; after `quiet`; and when the last heartbeat is older than the lease.
        """
        if self._redis.follows_slots:
            await self.wait_for_work(timeout)
            return None
        nonce = _nonce()
        fetch = self._fetch_call(worker, nonce, room, holds, waited=True)
        reply = await scripts.run_behind(self._redis, ("BLPOP", self.keys.wake, timeout), fetch, timeout)
        return None if reply is None else self._fetched(reply, worker, nonce, [])

    async def quiet(self, worker: str) -> None:
        """Make fetches that this worker sent behind a wait for work return nothing."""
        await scripts.run(self._redis, ScriptCall("rest", self.keys, [worker]))

    async def wait_for_work(self, timeout: float) -> bool:
        """Block until a task may be ready. Returns False after `timeout` seconds."""
        return await ask_alone(self._redis, self.keys.wake, "BLPOP", self.keys.wake, timeout, blocks=timeout) is not None

    def heartbeat_call(self, worker: str, info: bytes, held: Mapping[str, str]) -> ScriptCall:
        """The call that renews the leases in `held` (fence -> id), for the heartbeat's thread. `pulse` reads its reply."""
        pairs = [part for pair in held.items() for part in pair]
        return ScriptCall("heartbeat", self.keys, [worker, info, to_ms(self._lease.duration), *pairs])

    def announce_call(self, announcement: Announcement) -> ScriptCall:
        """The call that announces which tasks a template's workers know, for the heartbeat's thread. Its reply: how many unclaimed
        tasks became ready, and whether there are more: then it is made again.
        """
        versions = announcement.versions
        names = b"" if versions is None else msgspec.json.encode(versions)
        return ScriptCall(
            "announce", self.keys, [announcement.template, names, RELEASED_AT_ONCE, msgspec.json.encode(announcement.hooks)]
        )

    def describe_call(self, template: str, description: Description, *, ask: bool = False) -> ScriptCall:
        """The call that describes a template's tasks, for the heartbeat's thread. Its reply: whether the description is wanted,
        so that with `ask`, which does not send it, each is sent once for all workers of a template.
        """
        return ScriptCall("describe", self.keys, [template, description.digest, b"" if ask else description.body])

    async def write_notes(self, notes: Sequence[Note]) -> list[bool]:
        """Write progress and log lines. False where a delivery has lost its lease."""
        return await write_notes(self._redis, self.keys, notes)

    async def pass_on(self) -> None:
        """Wake another worker if a task is ready: this one may have taken the wake token, and will not fetch."""
        await scripts.run(self._redis, ScriptCall("pass_on", self.keys, []))

    async def forget_worker(self, worker: str) -> None:
        """Forget a worker that has exited, instead of waiting for its lease to expire."""
        await scripts.run(self._redis, ScriptCall("leave", self.keys, [worker]))

    async def mind(self, worker: str) -> DueChores | None:
        """Look which chores are due, and stay the minder until the next look. None if another worker has become it."""
        call = ScriptCall("mind", self.keys, [worker, *self._bounds])
        [reply] = await scripts.run(self._redis, call)
        if not reply:
            return None
        next_in, *names = reply
        return DueChores(frozenset(name.decode() for name in names), next_in / 1000)

    async def promote(self, limit: int = PROMOTED_AT_ONCE) -> tuple[int, float | None]:
        """Make due tasks ready. Returns how many, and seconds until the next is due (None: none is scheduled)."""
        [(moved, due, now)] = await scripts.run(self._redis, ScriptCall("promote", self.keys, [limit]))
        return moved, max(0, due - now) / 1000 if due >= 0 else None

    async def reap(self) -> Reaped:
        """Give back tasks whose lease has expired."""
        arguments: list[Argument] = [REAPED_AT_ONCE, self._lease.max_lost, lost_too_often(self._lease.max_lost)]
        [reply] = await scripts.run(self._redis, ScriptCall("reap", self.keys, arguments))
        return Reaped(*reply)

    async def sweep(self) -> tuple[int, int]:
        """Delete ended tasks past their retention, and bury old unclaimed ones.

        Returns how many succeeded or cancelled tasks were deleted, and how many dead ones.
        """
        call = ScriptCall("sweep", self.keys, [SETTLED_AT_ONCE, *self._bounds])
        [(finished, dead)] = await scripts.run(self._redis, call)
        return finished, dead

    @property
    def _bounds(self) -> list[Argument]:
        keep = self._retention
        ages = to_ms(keep.succeeded.age), to_ms(keep.dead.age), to_ms(keep.unclaimed.age)
        return [ages[0], keep.succeeded.count, ages[1], keep.dead.count, ages[2]]

    def _enqueue_call(self, admissions: Sequence[Admission]) -> ScriptCall:
        return ScriptCall("enqueue", self.keys, _enqueue_fields(admissions))

    async def _enqueue_durably(self, admissions: Sequence[Admission], durability: Durability) -> list[Any]:
        calls = [self._enqueue_call(part) for part in chunks(admissions, ENQUEUED_AT_ONCE)]
        parts, answer = await scripts.run_and_ask(self._redis, calls, question(durability))
        if missed := shortfall(durability, answer):
            ids = [admission.message.id for admission in admissions]
            raise NotDurable(f"enqueued, but not {durability}: {missed}", ids)
        if isinstance(answer, Exception):
            raise mapped(answer) from answer
        return list(chain.from_iterable(parts))

    def _fetch_call(self, worker: str, nonce: str, room: int, holds: Holds, *, waited: bool = False) -> ScriptCall:
        lease = self._lease
        arguments: list[Argument] = [worker, nonce, room, to_ms(lease.duration), int(holds), *self._pace, int(waited)]
        return ScriptCall("fetch", self.keys, [*arguments, lease.max_lost], before=self._nothing_ended)

    def _fetched(self, reply: Sequence[Any], worker: str, nonce: str, refused: list[Settlement], *, relay: bool = False) -> Turn:
        now, back, paused, mind, first, clear, *fields = reply
        deliveries = list(_deliveries(fields, now, first, worker, nonce, self._lease.max_lost))
        return Turn(refused, deliveries, bool(paused), _seconds(back), relay, _seconds(mind), bool(clear))


def pulse(reply: Sequence[Any]) -> Pulse:
    """Decode the reply to a heartbeat."""
    paused, lost, cancelled, announce, mind = reply
    lost_fences, to_cancel = [fence.decode() for fence in lost], [fence.decode() for fence in cancelled]
    return Pulse(bool(paused), lost_fences, to_cancel, bool(announce), _seconds(mind))


def _enqueue_fields(admissions: Sequence[Admission]) -> list[Argument]:
    marked = 0
    marked_fields: list[Argument] = []
    tasks: list[Argument] = []
    for admission in admissions:
        message = admission.message
        when = (to_ms(admission.delay), to_ms(admission.run_at)) if admission.delay or admission.run_at else (0, 0)
        tasks += (message.id, encode(message), message.priority, *when)
        if admission.claim or admission.limit:
            marked += 1
            marked_fields += (message.id, *marks(admission.claim, admission.limit))
    return [marked, *marked_fields, *tasks]


def _answer(message: Message, reply: bytes | list[bytes]) -> Answer:
    if isinstance(reply, list):
        return Receipt(reply[0].decode(), None, duplicate=True)
    if state := _ADMITTED.get(reply):
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


def _deliveries(fields: Sequence[Any], now: int, first: int, worker: str, nonce: str, max_lost: int) -> Iterator[Delivery]:
    for number, at in enumerate(range(0, len(fields), 5), first):
        task_id, envelope, failures, losses, waited = fields[at : at + 5]
        if envelope:  # an id without one was counted by the script and cannot run
            fence = f"{number:016d}:{worker}:{nonce}"
            lost = int(losses)
            alone = lost > 0 and on_last_life(lost, max_lost)
            yield Delivery(task_id.decode(), fence, envelope, int(failures), lost, waited / 1000, now, alone)


def _seconds(ms: int) -> float | None:
    return ms / 1000 if ms >= 0 else None


def _nonce() -> str:
    """Makes fences unique: after a failover the counter may give a number twice."""
    return os.urandom(4).hex()
