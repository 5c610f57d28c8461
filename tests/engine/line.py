"""A queue under test: the real scripts on a real server, time that can be moved, and the truth about where every task is."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
from redis import ResponseError
from redis.asyncio import Redis

from stoker.manifest.policies import Keep, Lease, RateLimit, Retention
from stoker.queue.broker import Broker, pulse
from stoker.queue.keys import Keys
from stoker.queue.reads.doctor.finding import Finding
from stoker.queue.reads.inspector import Inspector
from stoker.queue.records import Delivery, Holds, Pulse, QueueStats, Receipt, TaskStatus, Turn, receipts
from stoker.queue.scripts import run
from stoker.queue.settlements import Settlement
from stoker.redis.client import RedisClient, Routed
from stoker.redis.connect import connect
from stoker.redis.replies import ErrorReply
from stoker.rules.admission import Admission
from stoker.rules.announcement import Announcement
from stoker.rules.concurrency import Limit
from stoker.rules.losses import is_suspect
from stoker.rules.message import Message
from stoker.rules.settle import Failure, Succeed, Transition, Unclaim
from stoker.rules.units import Duration

NAMESPACE, QUEUE = "test", "emails"
PLACES = ("ready", "suspects", "leases", "scheduled", "dead", "done", "cancelled", "parked", "unclaimed")
LEASE = 30.0
FAILURE = Failure("ValueError", "no")
DONE = Succeed(b"null")
TIME = """(function(time)
  local micros = time[1] * 1000000 + time[2] + (redis.call('HGET', meta, 'ahead') or 0) * 1000
  return {math.floor(micros / 1000000), micros % 1000000}
end)(redis.call('TIME'))"""
"""The clock of queues whose tests call `pass_time`: Redis' own, so far ahead as that says."""


class Worded(Redis):
    """The engine's client, and redis-py's words for looking behind the scenes: they go over the engine's own connections."""

    def __init__(self, client: RedisClient) -> None:
        super().__init__(protocol=2)
        self.client = client
        self.round_trip, self.stream, self.alone = client.round_trip, client.stream, client.alone
        self.everywhere, self.follows_slots, self.old = client.everywhere, client.follows_slots, client.old

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        words = (*str(args[0]).split(), *args[1:])
        [reply] = await self.round_trip([Routed(str(words[1]) if len(words) > 1 else "", words)])
        if isinstance(reply, ErrorReply):
            raise ResponseError(str(reply))
        options.pop("keys", None)
        callback = self.response_callbacks.get(args[0])
        return callback(reply, **options) if callback else reply

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await self.client.aclose()


class Line:
    """One queue, and whoever enqueues, works and looks at it."""

    def __init__(self, redis: Redis, lease: Lease, retention: Retention, rate_limit: RateLimit | None = None) -> None:
        self.redis = redis
        self.keys = Keys(NAMESPACE, QUEUE)
        self.broker = Broker(redis, self.keys, lease, retention, rate_limit)
        self.inspector = Inspector(redis, NAMESPACE)

    async def enqueue(
        self, *ids: str, priority: int = 0, delay: float = 0.0, run_at: float = 0.0, limit: Limit | None = None
    ) -> list[Receipt]:
        admissions = [Admission(message(task_id, priority), delay, run_at, limit=limit) for task_id in ids]
        return receipts(await self.broker.enqueue(admissions))

    async def fetch(self, room: int = 100, worker: str = "w", holds: Holds = Holds.NOTHING) -> list[Delivery]:
        return (await self.look(room, worker, holds)).deliveries

    async def look(self, room: int = 100, worker: str = "w", holds: Holds = Holds.NOTHING) -> Turn:
        return await self.broker.turn([], room, worker, holds)

    async def order(self, room: int = 100) -> list[str]:
        """The ids in the order in which they are handed out."""
        return [delivery.id for delivery in await self.fetch(room)]

    async def settle(self, delivery: Delivery, transition: Transition, busy: float = 0.0) -> bool:
        """True where it was accepted."""
        turn = await self.broker.turn([Settlement(delivery.id, delivery.fence, transition, busy)], 0, "w")
        return not turn.refused

    async def beat(self, *held: Delivery, worker: str = "w", template: str = "") -> Pulse:
        info = b'{"template":"%s"}' % template.encode() if template else b"{}"
        call = self.broker.heartbeat_call(worker, info, {delivery.fence: delivery.id for delivery in held})
        return pulse((await run(self.redis, call))[0])

    async def announce(self, template: str, versions: dict[str, int] | None, worker: str | None = None) -> int:
        """A worker of this template becomes alive and announces what it knows. Returns how many tasks became ready."""
        await self.beat(worker=worker or template, template=template)
        [[released, more]] = await run(self.redis, self.broker.announce_call(Announcement(template, versions)))
        assert not more
        return int(released)

    async def unclaim(self, delivery: Delivery, task: str = "add", version: int = 0, template: str = "old") -> bool:
        """A worker of this template does not know the task."""
        return await self.settle(delivery, Unclaim(task, version, template, 5.0))

    async def stats(self, horizon: float = 0.0) -> QueueStats:
        return (await self.inspector.stats([QUEUE], horizon))[0]

    async def status(self, task_id: str) -> TaskStatus:
        return await self.inspector.task(QUEUE, task_id)

    async def examine(self, *, mend: bool = False) -> list[Finding]:
        return [finding async for finding in self.inspector.examine(QUEUE, mend=mend)]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, as if workers called all the while. The scripts must read `TIME` of this module."""
        await self.broker.promote(0)
        for column in ("ahead", "logical", "real"):
            await now(self.redis.hincrby(self.keys.meta, column, round(seconds * 1000)))

    async def clock(self) -> int:
        """The queue's own time in ms."""
        await self.broker.promote(0)
        return int(float(cast(bytes, await now(self.redis.hget(self.keys.meta, "logical")))))

    async def check(self) -> None:
        """Every task is in exactly one place, with its envelope; no column holds an id that is nowhere."""
        k = self.keys
        places = {name: await self._members(getattr(k, name)) for name in PLACES}
        everywhere = [task_id for members in places.values() for task_id in members]
        assert len(everywhere) == len(set(everywhere)), f"in two places at once: {places}"
        assert set(everywhere) == await self._fields(k.tasks), f"place and envelope belong together: {places}"
        assert await self._fields(k.owners) == places["leases"]
        assert await self._fields(k.results) == places["done"]
        assert await self._fields(k.levels) <= places["scheduled"] | places["dead"]
        ended = places["done"] | places["cancelled"]
        assert await self._fields(k.attempts) | await self._fields(k.errors) <= set(everywhere) - ended
        assert await self._fields(k.lost) <= set(everywhere) - ended
        losses = {task_id: int(count) for task_id, count in (await now(self.redis.hgetall(k.lost))).items()}
        assert places["suspects"] <= set(losses)
        assert not places["ready"] & {task_id for task_id in losses if is_suspect(losses[task_id])}, "a suspect is among the others"
        assert await self._fields(k.cancels) <= places["leases"]
        assert await self._fields(k.members) <= set(everywhere) - ended, "who has ended is a member of nothing"
        for column in (k.history, k.progress, k.logs):
            assert await self._fields(column) <= set(everywhere), "a story is forgotten with its task"
        held = {digest: tuple(value.split(b" ", 1)) for digest, value in (await now(self.redis.hgetall(k.uniques))).items()}
        claims = {task_id: value[2:] for task_id, value in (await now(self.redis.hgetall(k.claims))).items()}
        assert {task_id: digest for digest, (_, task_id) in held.items()} == claims, "a claim and its holder know each other"
        assert set(claims) <= set(everywhere) - ended - places["dead"], "who has ended claims nothing"
        await self._check_limits(places)
        await self._check_unclaimed(places)
        assert await now(self.redis.llen(k.wake)) <= 1, "one enqueue wakes one worker"

    async def _check_limits(self, places: dict[str, set[bytes]]) -> None:
        """No key has more running than it may, each knows its own, and nobody is parked whose key has room."""
        k = self.keys
        limits = {task_id: text.split(b" ", 1) for task_id, text in (await now(self.redis.hgetall(k.limits))).items()}
        assert not set(limits) & (places["done"] | places["cancelled"])
        assert set(limits) <= set().union(*places.values())
        running = {limits[task_id][1] + b"\x1f" + task_id for task_id in places["leases"] if task_id in limits}
        assert await self._members(k.running_by) == running
        assert places["parked"] <= set(limits)
        turns = {tuple(turn.split(b"\x1f")[::2]) for turn in await self._members(k.parked_by)}
        assert turns == {(limits[task_id][1], task_id) for task_id in places["parked"]}
        for key in {key for _, key in limits.values()}:
            most, mine = max(int(most) for most, its in limits.values() if its == key), {t for t in limits if limits[t][1] == key}
            run, line = len(mine & places["leases"]), len(mine & (places["ready"] | places["suspects"]))
            assert run <= most, f"{run} of {key!r} run, {most} may"
            assert run + line >= most or not mine & places["parked"], f"{key!r} has room, and some are parked"

    async def _check_unclaimed(self, places: dict[str, set[bytes]]) -> None:
        """Every unclaimed task, and no other, can be found by its name."""
        k = self.keys
        texts = {task_id: text.split(b" ", 3) for task_id, text in (await now(self.redis.hgetall(k.unclaimed_as))).items()}
        assert set(texts) == places["unclaimed"]
        names = {b"\x1f".join((name, b"%010d" % int(version), task_id)) for task_id, (_, version, _, name) in texts.items()}
        assert await self._members(k.unclaimed_by) == names

    async def _members(self, key: str) -> set[bytes]:
        return set(await now(self.redis.zrange(key, 0, -1)))

    async def _fields(self, key: str) -> set[bytes]:
        return set(await now(self.redis.hkeys(key)))


async def now(reply: Awaitable[Any] | Any) -> Any:
    """What redis-py types as "perhaps awaitable"."""
    return await reply


def message(task_id: str, priority: int = 0, **arguments: object) -> Message:
    return Message(task_id, "add", msgspec.Raw(msgspec.json.encode(arguments)), QUEUE, 1_800_000_000_000, priority)


@asynccontextmanager
async def open_line(
    url: str,
    *,
    max_lost: int = 3,
    succeeded: Keep = Keep(Duration(3600), 1000),
    dead: Keep = Keep(Duration(86400), 1000),
    rate_limit: RateLimit | None = None,
) -> AsyncIterator[Line]:
    """A line on this server, whose truth is checked at the end."""
    redis = Worded(connect(url))
    try:
        line = Line(redis, Lease(Duration(LEASE), max_lost), Retention(succeeded, dead), rate_limit)
        yield line
        await line.check()
    finally:
        await redis.aclose()
