"""Connections to Redis: one per URL, shared by all its queues, opened on first use and closed when no queue uses it.

One Redis that hangs, refuses or answers nonsense costs the others nothing: each call has its own timeout, `read` turns every
failure into the problem of those queues, and while a Redis does not answer, only the autoscaler's reads ask it (reachability.py).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from math import inf

from stoker.autoscale.scaling_record import ScalingRecord
from stoker.errors import Invalid, RedisUnavailable, RedisUnreadable, StokerError
from stoker.queue.reads.inspector import Inspector
from stoker.queue.reads.statistics import read_totals
from stoker.queue.reaping import Reaped
from stoker.queue.schedules import Schedules
from stoker.redis.client import RedisClient
from stoker.redis.connect import connect
from stoker.redis.reply_limit import NARROW, ReplyLimit, ReplyTooLarge
from stoker.redis.users import UsersRefused, set_user, user_names
from stoker.rules.identity import Holder, QueueId
from stoker.rules.losses import LossCause
from stoker_operator.allowed_redis import AllowedRedis
from stoker_operator.credentials.tenant import User
from stoker_operator.queues.fenced import fenced
from stoker_operator.queues.names import lookups_of
from stoker_operator.queues.reachability import Reachability
from stoker_operator.queues.redis_problems import defect_in, invalid, is_away, problem_of
from stoker_operator.state.findings import Reading
from stoker_operator.state.problem import Problem, credentials_refused
from stoker_operator.state.redis_problem import redis_unreachable
from stoker_operator.state.write_guard import NotLeader, WriteGuard

log = logging.getLogger(__name__)
MAX_OPEN = 500
"""Redis servers with an open connection. One more closes an idle one, or waits until one is idle."""
REPLY, REPLY_OF_PARTITION = 1024 * 1024, 16 * 1024
"""Bytes that a reply of a tenant's Redis may have, and how many more for each partition of its queues. Parsing what the wider limit
lets through takes the loop, which serves all others too, a tenth of a second."""


class _Connection:
    """An open client and how many calls use it now. `limit` is that of its replies."""

    def __init__(self, redis: RedisClient, limit: ReplyLimit) -> None:
        self.redis = redis
        self.limit = limit
        self.calls = 0

    def expect(self, partitions: int) -> None:
        """Its replies may be as large as the statistics of this many."""
        self.limit.most = max(self.limit.most, min(NARROW, REPLY + partitions * REPLY_OF_PARTITION))


class RedisPool:
    """Belongs to one event loop. `timeout` (seconds) bounds each call. Every URL but the operator's `own` is a tenant's.

    What writes raises NotLeader where the guard refuses it.
    """

    def __init__(
        self,
        timeout: float,
        own: Callable[[], str] = str,
        max_open: int = MAX_OPEN,
        allowed: AllowedRedis | None = None,
        guard: WriteGuard | None = None,
    ) -> None:
        self._timeout = timeout
        self._guard = guard or WriteGuard()
        self._own = own
        self._allowed = allowed or AllowedRedis()
        self._max_open = max_open
        self._open: dict[str, _Connection] = {}  # the least recently used first
        self._idle = asyncio.Event()
        self._logged: dict[str, Problem] = {}
        self._with_users = ""  # the URL whose users are looked at every second, also while no queue is read there
        self._limit = ReplyLimit.narrow()
        self._reachability = Reachability()

    @property
    def open(self) -> Collection[str]:
        """The URLs with an open connection."""
        return self._open.keys()

    async def probe(self, url: str, queues: Sequence[Sequence[QueueId]], horizons: Sequence[float] = ()) -> list[Reading]:
        """`read`, also of a Redis that did not answer a moment ago. The reads of such ones take turns."""
        async with self._reachability.turn(url, waits=url != self._own()):
            return await self._read(url, queues, horizons)

    async def read(self, url: str, queues: Sequence[Sequence[QueueId]], horizons: Sequence[float] = ()) -> list[Reading]:
        """Read all these queues, of any namespaces, in one round trip. A queue is given by its partitions, and how many seconds
        ahead its tasks count as due; default: 0.

        Returns a reading for each, in order.

        Raises nothing: a failure is the `problem` of the reading.
        """
        try:
            self._reachability.check(url)
        except RedisUnavailable as error:
            return [Reading(problem=redis_unreachable(error))] * len(queues)
        return await self._read(url, queues, horizons)

    async def _read(self, url: str, queues: Sequence[Sequence[QueueId]], horizons: Sequence[float]) -> list[Reading]:
        horizons = horizons or [0.0] * len(queues)
        try:
            async with self._connection(url, partitions=sum(map(len, queues))) as redis:
                readings = [Reading(stats) for stats in await read_totals(redis, queues, horizons)]
            self._logged.pop(url, None)
            return readings
        except Invalid as error:
            return [Reading(problem=invalid(error))] * len(queues)
        except Exception as error:
            problem = self._problem(url, error)
            too_large = isinstance(error.__cause__, ReplyTooLarge)
            if is_away(url, error):
                return [Reading(problem=problem)] * len(queues)
        if len(queues) > 1 and too_large:
            # One after the other: a reply that is too large cuts the connection that concurrent reads share.
            return [await self._read_one(url, *each) for each in zip(queues, horizons, strict=True)]
        if len(queues) > 1:
            # One broken queue, or one unreachable node of a cluster, must not hide the queues that can be read.
            return list(await asyncio.gather(*(self._read_one(url, *each) for each in zip(queues, horizons, strict=True))))
        return [Reading(problem=problem)] * len(queues)

    async def reap(self, url: str, queue: QueueId, host: str, max_lost: int, cause: LossCause | None = None) -> Reaped | None:
        """Take back the tasks that the workers of a pod held. Returns None if Redis did not do it."""
        try:
            async with self._writing(url) as redis:
                return await Inspector(redis, queue.namespace).reap_worker(queue.name, host, max_lost, cause)
        except StokerError:
            return None  # the next read of the queue reports the cause

    async def claim(self, url: str, queue: QueueId, holder: Holder, instead_of: Holder | None = None) -> Holder | Problem:
        """Claim a queue for a TaskQueue (Inspector.claim). Returns the holder from now on, or why Redis could not be asked."""
        try:
            async with self._writing(url) as redis:
                return await Inspector(redis, queue.namespace).claim(queue.name, holder, instead_of)
        except Invalid as error:
            return invalid(error)
        except Exception as error:
            return self._problem(url, error)

    async def release(self, url: str, queue: QueueId, holder: Holder) -> None:
        """Release the claim of a TaskQueue, if Redis answers."""
        try:
            async with self._writing(url) as redis:
                await Inspector(redis, queue.namespace).release_claim(queue.name, holder)
        except StokerError as error:
            log.info("claim not released: %s", error, extra={"queue": queue.name})

    async def set_user(self, url: str, user: User) -> Problem | None:
        """Create an ACL user, or make it so. Returns why Redis did not."""
        try:
            async with self._writing(url) as redis:
                await set_user(redis, user.name, user.password, user.rules, user.optional)
        except UsersRefused:
            return credentials_refused()
        except Invalid as error:
            return invalid(error)
        except Exception as error:
            return self._problem(url, error)
        return None

    async def user_names(self, url: str) -> set[str] | None:
        """The ACL users of a Redis; None if it did not say. Its connection stays open."""
        self._with_users = url
        try:
            async with self._connection(url) as redis:
                return await user_names(redis)
        except StokerError:
            return None  # the next read of a queue reports the cause

    async def record(self, url: str, queue: QueueId, record: ScalingRecord) -> None:
        """Record a decision of the autoscaler, if Redis takes it."""
        try:
            async with self._writing(url) as redis:
                await Inspector(redis, queue.namespace).record_decision(queue.name, record)
        except StokerError as error:
            log.info("decision not recorded: %s", error, extra={"queue": queue.name})

    async def with_schedules(self, url: str, queue: QueueId, work: Callable[[Schedules], Awaitable[None]]) -> None:
        """Call `work` with the schedules of a queue. Raises Invalid, RedisUnavailable or RedisRefused."""
        async with self._writing(url) as redis:
            await work(Inspector(redis, queue.namespace).schedules(queue.name))

    async def keep_only(self, urls: Collection[str]) -> None:
        """Close every other connection, except those in use: the next call closes these."""
        urls = {*urls, self._with_users}
        unused = [url for url, connection in self._open.items() if url not in urls and not connection.calls]
        await self._close(unused)
        self._logged = {url: problem for url, problem in self._logged.items() if url in urls}
        self._reachability.keep_only(urls)

    async def close(self) -> None:
        """Close all connections."""
        await self._close(list(self._open))

    @contextlib.asynccontextmanager
    async def _writing(self, url: str) -> AsyncIterator[RedisClient]:
        """`_connection`, for as long as this operator may write: raises NotLeader when it may not.

        Raises RedisUnavailable at once for a Redis that did not answer a moment ago.
        """
        self._reachability.check(url)
        async with self._connection(url, within=self._guard.left()) as redis:
            yield fenced(redis, self._guard)

    @contextlib.asynccontextmanager
    async def _connection(self, url: str, partitions: int = 0, within: float = inf) -> AsyncIterator[RedisClient]:
        """A connection for the block, which must end within the timeout. Raises Invalid and RedisUnavailable."""
        try:
            async with self._used(url, partitions, min(within, self._timeout)) as redis:
                yield redis
        except RedisUnavailable as error:
            self._reachability.failed(url, error)
            raise
        except StokerError:
            self._reachability.answered(url)
            raise
        except Exception as error:  # of code that took a reply for what a Stoker script returns
            self._reachability.answered(url)
            raise RedisUnreadable("a reply is none that a Stoker script returns: is this Redis, and Stoker's?") from error
        self._reachability.answered(url)

    @contextlib.asynccontextmanager
    async def _used(self, url: str, partitions: int, timeout: float) -> AsyncIterator[RedisClient]:
        cause = f"no free connection within {timeout:g}s: {self._max_open} other Redis servers are in use"
        try:
            async with asyncio.timeout(timeout):
                connection = await self._acquire(url)
                connection.expect(partitions)
                cause = f"Redis did not answer within {timeout:g}s"
                try:
                    with lookups_of("" if url == self._own() else url):
                        yield connection.redis
                finally:
                    connection.calls -= 1
                    if not connection.calls:
                        self._idle.set()
        except TimeoutError:
            raise RedisUnavailable(cause) from None

    async def _acquire(self, url: str) -> _Connection:
        while url not in self._open and len(self._open) >= self._max_open:
            idle = next((other for other, connection in self._open.items() if not connection.calls), None)
            if idle is not None:
                await self._close([idle])
            else:
                self._idle.clear()
                await self._idle.wait()
        connection = self._open.pop(url, None) or self._connected(url)
        connection.calls += 1
        self._open[url] = connection
        return connection

    def _connected(self, url: str) -> _Connection:
        foreign = url != self._own()
        if foreign:
            self._allowed.check_url(url)
        limit = self._limit.part(REPLY) if foreign else self._limit
        return _Connection(connect(url, limit=limit, foreign=foreign), limit)

    async def _close(self, urls: Sequence[str]) -> None:
        closing = [self._open.pop(url).redis for url in urls]
        await asyncio.gather(*(self._hang_up(redis) for redis in closing))

    async def _hang_up(self, redis: RedisClient) -> None:
        # The connection is given up either way: a server that hangs, or is gone, must not hold up the caller.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await redis.aclose()

    async def _read_one(self, url: str, queue: Sequence[QueueId], horizon: float) -> Reading:
        [reading] = await self._read(url, [queue], [horizon])
        return reading

    def _problem(self, url: str, error: Exception) -> Problem:
        if isinstance(error, NotLeader):
            raise error
        problem = problem_of(url, error)
        if self._logged.get(url) != problem:  # once per Redis and problem, not once per second
            self._logged[url] = problem
            log.warning("cannot read Redis: %s", error, exc_info=defect_in(error), extra={"reason": str(problem.reason)})
        return problem
